package laravel

import (
	"errors"
	"strings"
	"unicode"

	"reverb/internal/lib/php"
	"reverb/internal/lib/phpfile"
)

// functions are the functions of Laravel that its configuration files call. env() notes in asked
// the variables that the file asks for.
func (a Application) functions(asked map[string]bool) map[string]phpfile.Function {
	env := func(args phpfile.Args) (php.Value, error) {
		name, _ := args.At(0, "key")
		asked[name.Text()] = true
		if text, ok := a.Env(name.Text()); ok {
			return value(text), nil
		}
		fallback, _ := args.At(1, "default")
		return fallback, nil
	}
	below := func(folder string) phpfile.Function {
		return func(args phpfile.Args) (php.Value, error) {
			root := a.Folder
			if folder != "" {
				root += "/" + folder
			}
			if storage, ok := a.Env("LARAVEL_STORAGE_PATH"); ok && folder == "storage" &&
				storage != "" {
				root = storage
			}
			if path, _ := args.At(0, "path"); path.Text() != "" {
				root += "/" + strings.TrimLeft(path.Text(), "/")
			}
			return php.Of(root), nil
		}
	}
	all := map[string]phpfile.Function{
		"env": env, `illuminate\support\env::get`: env,
		"base_path": below(""), "storage_path": below("storage"), "app_path": below("app"),
		"public_path": below("public"), "config_path": below("config"),
		"database_path": below("database"), "resource_path": below("resources"),
	}
	for name, f := range helpers() {
		class, method, _ := strings.Cut(name, "::")
		all[class+"::"+method] = f // the alias without a namespace
		all[`illuminate\support\`+class+"::"+method] = f
	}
	return all
}

// helpers are static methods of Illuminate\Support.
func helpers() map[string]phpfile.Function {
	text := func(f func(s, with string) (string, error), fallback string) phpfile.Function {
		return func(args phpfile.Args) (php.Value, error) {
			with := php.Of(fallback)
			if len(args.Values) > 1 {
				with = args.Values[1]
			}
			if len(args.Values) == 0 || len(args.Values) > 2 || args.Named != nil ||
				args.Values[0].Kind == php.Array || with.Kind == php.Array {
				return php.Value{}, errors.New("arguments that are not known here")
			}
			s, err := f(args.Values[0].Text(), with.Text())
			return php.Of(s), err
		}
	}
	return map[string]phpfile.Function{
		"str::slug": text(slug, "-"),
		"str::lower": text(func(s, _ string) (string, error) { return strings.ToLower(s), nil },
			""),
		"str::upper": text(func(s, _ string) (string, error) { return strings.ToUpper(s), nil },
			""),
		"str::start": text(func(s, with string) (string, error) {
			for with != "" && strings.HasPrefix(s, with) {
				s = s[len(with):]
			}
			return with + s, nil
		}, ""),
		"str::finish": text(func(s, with string) (string, error) {
			for with != "" && strings.HasSuffix(s, with) {
				s = s[:len(s)-len(with)]
			}
			return s + with, nil
		}, ""),
		"arr::wrap": func(args phpfile.Args) (php.Value, error) {
			v, _ := args.At(0, "value")
			switch v.Kind {
			case php.Array:
				return v, nil
			case php.Null:
				return php.Of([]php.Value{}), nil
			}
			return php.Of([]php.Value{v}), nil
		},
	}
}

// asciiOf has letters and the text that Str::ascii replaces them with, in lower case because slugs
// are. Letters of other alphabets are missing: their texts differ between versions of
// voku/portable-ascii.
const asciiOf = "a:ÀÁÂÃÄÅàáâãäåĀāĂăĄąẠạẢảẤấẦầẨẩẪẫẬậẮắẰằẲẳẴẵẶặ ae:Ææ c:ÇçĆćĈĉĊċČč d:ÐðĎďĐđ " +
	"e:ÈÉÊËèéêëĒēĔĕĖėĘęĚěẸẹẺẻẼẽẾếỀềỂểỄễỆệ g:ĜĝĞğĠġĢģ h:ĤĥĦħ i:ÌÍÎÏìíîïĨĩĪīĬĭĮįİıỈỉỊị ij:Ĳĳ j:Ĵĵ " +
	"k:Ķķĸ l:ĹĺĻļĽľĿŀŁł n:ÑñŃńŅņŇňŉŊŋ o:ÒÓÔÕÖØòóôõöøŌōŎŏŐőỌọỎỏỐốỒồỔổỖỗỘộỚớỜờỞởỠỡỢợ oe:Œœ " +
	"r:ŔŕŖŗŘř " +
	"s:ŚśŜŝŞşŠšſ ss:ß t:ŢţŤťŦŧ th:Þþ u:ÙÚÛÜùúûüŨũŪūŬŭŮůŰűŲųỤụỦủỨứỪừỬửỮữỰự w:ŴŵẀẁẂẃẄẅ " +
	"y:ÝýÿŶŷŸỲỳỴỵỶỷỸỹ z:ŹźŻżŽž -:–— ':‘’“”„‚"

// ascii is the text that Str::ascii replaces a character with, in lower case. ok is false if this
// package does not know it.
func ascii(r rune) (s string, ok bool) {
	switch {
	case r < 0x80:
		return string(unicode.ToLower(r)), true
	case r == 0xa0:
		return " ", true
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul),
		unicode.Is(unicode.So, r) && r > 0xffff:
		return "", true // Str::ascii leaves it out
	}
	for group := range strings.SplitSeq(asciiOf, " ") {
		if with, letters, _ := strings.Cut(group, ":"); strings.ContainsRune(letters, r) {
			return with, true
		}
	}
	return "", false
}

// slug is Str::slug (Laravel: Support\Str).
func slug(title, separator string) (string, error) {
	var plain strings.Builder
	for _, r := range title {
		s, ok := ascii(r)
		if !ok {
			return "", errors.New("a letter that is not known here")
		}
		plain.WriteString(s)
	}
	flip := "-"
	if separator == "-" {
		flip = "_"
	}
	s := strings.ReplaceAll(plain.String(), flip, separator)
	s = strings.ReplaceAll(s, "@", separator+"at"+separator)
	if separator == "" || len(separator) > 1 || strings.ContainsAny(separator, " \t\r\n") {
		return "", errors.New("a separator that is not known here")
	}
	var b strings.Builder
	gap := false
	for _, r := range s {
		switch {
		case strings.ContainsRune(separator, r), unicode.IsSpace(r):
			gap = true
		case unicode.IsLetter(r), unicode.IsNumber(r):
			if gap && b.Len() > 0 {
				b.WriteString(separator)
			}
			gap = false
			b.WriteRune(r)
		}
	}
	return b.String(), nil
}
