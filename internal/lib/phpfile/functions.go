package phpfile

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/php"
)

// constants are PHP's own constants, in upper case, as php.Of takes them: a table of data, where
// values would be 15 kB of code. PHP knows TRUE, FALSE and NULL in any case.
var constants = map[string]any{
	"PHP_INT_MAX":                         int64(math.MaxInt64),
	"PHP_INT_MIN":                         int64(math.MinInt64),
	"PHP_INT_SIZE":                        int64(8),
	"PHP_EOL":                             "\n",
	"DIRECTORY_SEPARATOR":                 "/",
	"PATH_SEPARATOR":                      ":",
	"INF":                                 math.Inf(1),
	"NAN":                                 math.NaN(),
	"M_PI":                                math.Pi,
	"PHP_FLOAT_EPSILON":                   0x1p-52,
	"PHP_URL_SCHEME":                      int64(0),
	"PHP_URL_HOST":                        int64(1),
	"PHP_URL_PORT":                        int64(2),
	"PHP_URL_USER":                        int64(3),
	"PHP_URL_PASS":                        int64(4),
	"PHP_URL_PATH":                        int64(5),
	"PHP_URL_QUERY":                       int64(6),
	"PHP_URL_FRAGMENT":                    int64(7),
	"FILTER_VALIDATE_BOOLEAN":             filterBool,
	"FILTER_VALIDATE_BOOL":                filterBool,
	"FILTER_VALIDATE_INT":                 filterInt,
	"E_ALL":                               int64(32767),
	"LOG_DEBUG":                           int64(7),
	"LOG_USER":                            int64(8),
	"JSON_THROW_ON_ERROR":                 int64(4194304),
	"STREAM_CRYPTO_METHOD_TLSv1_0_SERVER": int64(8),
	"STREAM_CRYPTO_METHOD_TLSv1_1_SERVER": int64(16),
	"STREAM_CRYPTO_METHOD_TLSv1_2_SERVER": int64(32),
	"STREAM_CRYPTO_METHOD_TLSv1_3_SERVER": int64(64),
	"STREAM_CRYPTO_METHOD_TLS_SERVER":     int64(120),
	"STREAM_CRYPTO_METHOD_ANY_SERVER":     int64(126),
}

const filterBool, filterInt = int64(258), int64(257)

// constant is the value of a constant.
func (r *reader) constant(name string, line int) (v php.Value, ok bool) {
	name = r.function(name)
	switch strings.ToLower(name) {
	case "true", "false":
		return php.Of(len(name) == 4), true
	case "null":
		return php.Value{}, true
	case "__line__":
		return php.Of(int64(line)), true
	case "__dir__":
		return php.Of(r.o.Folder), true
	case "__file__":
		return php.Of(path.Join(r.o.Folder, path.Base(r.o.File))), true
	}
	x, ok := constants[name]
	return php.Of(x), ok
}

// function is a function of PHP. It takes from least to most arguments, and none by its name.
type function struct {
	least, most int
	compute     compute
}

// compute computes a call with these arguments. Its error says what an argument is that the reader
// does not take, without its text.
type compute func(r *reader, a []php.Value) (php.Value, error)

// functions are the functions of PHP that the reader computes.
func functions() map[string]function {
	return map[string]function{
		"explode":         {2, 3, explode},
		"implode":         {1, 2, implode},
		"join":            {1, 2, implode},
		"trim":            {1, 2, trims(strings.Trim)},
		"ltrim":           {1, 2, trims(strings.TrimLeft)},
		"rtrim":           {1, 2, trims(strings.TrimRight)},
		"strtolower":      {1, 1, ofText(lower)},
		"strtoupper":      {1, 1, ofText(upper)},
		"ucfirst":         {1, 1, ofText(first(upper))},
		"lcfirst":         {1, 1, ofText(first(lower))},
		"strlen":          {1, 1, strlen},
		"str_starts_with": {2, 2, asks(strings.HasPrefix)},
		"str_ends_with":   {2, 2, asks(strings.HasSuffix)},
		"str_contains":    {2, 2, asks(strings.Contains)},
		"str_replace":     {3, 3, replace},
		"substr":          {2, 3, substr},
		"basename":        {1, 2, basename},
		"dirname":         {1, 2, dirname},
		"strval":          {1, 1, castTo("string")},
		"intval":          {1, 1, castTo("int")},
		"floatval":        {1, 1, castTo("float")},
		"boolval":         {1, 1, castTo("bool")},
		"filter_var":      {2, 2, filterVar},
		"is_null":         {1, 1, isKind(php.Null)},
		"is_string":       {1, 1, isKind(php.String)},
		"is_array":        {1, 1, isKind(php.Array)},
		"is_bool":         {1, 1, isKind(php.Bool)},
		"is_int":          {1, 1, isKind(php.Int)},
		"is_numeric":      {1, 1, isNumeric},
		"empty":           {1, 1, empty},
		"max":             {2, 64, extreme(1)},
		"min":             {2, 64, extreme(-1)},
		"count":           {1, 1, count},
		"in_array":        {2, 3, inArray},
		"array_filter":    {1, 2, arrayFilter},
		"array_map":       {2, 2, arrayMap},
		"array_values": {1, 1, remade(func(made *php.Builder, e php.Element) {
			made.Add(e.Value)
		})},
		"array_keys": {1, 1, remade(func(made *php.Builder, e php.Element) {
			made.Add(e.Key.Value())
		})},
		"array_merge":  {0, 64, arrayMerge},
		"array_unique": {1, 1, arrayUnique},
		"parse_url":    {1, 2, parseURL},
		"json_decode":  {2, 4, jsonDecode},
	}
}

// apply computes a call, and counts its steps and the size of its result.
func (r *reader) apply(at token, name string, args Args) (v php.Value, bad *Error) {
	var err error
	own, known := r.functions[strings.ToLower(name)]
	given, added := r.o.Functions[strings.ToLower(name)]
	switch {
	case added:
		v, err = given(args)
	case !known:
		return v, r.unknown(at, "%s() is not known here", shortName(name))
	case args.Named != nil:
		return v, r.unknown(at, "%s() with names of arguments is not known here", shortName(name))
	case len(args.Values) < own.least || len(args.Values) > own.most:
		return v, r.unknown(at, "%s() with %d arguments is not known here", shortName(name),
			len(args.Values))
	default:
		v, err = own.compute(r, args.Values)
	}
	var limit *Error
	if errors.As(err, &limit) {
		return v, limit
	}
	if err != nil {
		return v, r.unknown(at, "%s() is given %v", shortName(name), err)
	}
	return v, r.chargeValue(v)
}

// shortName is the name of a function or of a static method without its namespace.
func shortName(name string) string {
	if len(name) > 64 {
		name = name[:64]
	}
	return name[strings.LastIndexByte(name, '\\')+1:]
}

var errArray = errors.New("an array")

// scalars is an error if one of the values is an array where PHP needs a text.
func scalars(values ...php.Value) error {
	if slices.ContainsFunc(values, func(v php.Value) bool { return v.Kind == php.Array }) {
		return errArray
	}
	return nil
}

// elements are the elements of an array.
func elements(v php.Value) ([]php.Element, error) {
	if v.Kind != php.Array {
		return nil, errors.New(v.TypeName() + " where an array is needed")
	}
	return v.Elements(), nil
}

// textKey turns a text into a key.
func textKey(s string) php.Key {
	k, _ := php.KeyOf(php.Of(s))
	return k
}

func ofText(f func(string) string) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		return php.Of(f(a[0].Text())), scalars(a...)
	}
}

func asks(f func(a, b string) bool) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		return php.Of(f(a[0].Text(), a[1].Text())), scalars(a...)
	}
}

func castTo(name string) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		v, reason := php.Cast(name, a[0])
		if reason != "" {
			return v, errArray
		}
		return v, nil
	}
}

func isKind(a php.Kind) compute {
	return func(_ *reader, args []php.Value) (php.Value, error) {
		return php.Of(args[0].Kind == a), nil
	}
}

func empty(_ *reader, a []php.Value) (php.Value, error) { return php.Of(!a[0].Truth()), nil }

func strlen(_ *reader, a []php.Value) (php.Value, error) {
	return php.Of(int64(len(a[0].Text()))), scalars(a[0])
}

func count(_ *reader, a []php.Value) (php.Value, error) {
	list, err := elements(a[0])
	return php.Of(int64(len(list))), err
}

// first changes only the first byte of a text.
func first(change func(string) string) func(string) string {
	return func(s string) string {
		n := min(1, len(s))
		return change(s[:n]) + s[n:]
	}
}

func isNumeric(_ *reader, a []php.Value) (php.Value, error) {
	_, whole, _ := php.Numeric(a[0].Text())
	return php.Of(a[0].Kind == php.Int || a[0].Kind == php.Float || a[0].Kind == php.String &&
		whole), nil
}

// lower and upper change only ASCII, as PHP 8 does.
func lower(s string) string { return mapASCII(s, 'A', 'Z', 'a'-'A') }
func upper(s string) string { return mapASCII(s, 'a', 'z', 'A'-'a') }

func mapASCII(s string, from, to byte, by int) string {
	b := []byte(s)
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = byte(int(c) + by)
		}
	}
	return string(b)
}

func trims(f func(s, set string) string) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		set := " \t\n\r\v\x00"
		if len(a) > 1 {
			set = a[1].Text()
		}
		if err := scalars(a...); err != nil {
			return a[0], err
		}
		if strings.Contains(set, "..") || !isASCII(set) {
			return a[0], errors.New("a set of bytes that is not plain")
		}
		return php.Of(f(a[0].Text(), set)), nil
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func explode(r *reader, a []php.Value) (v php.Value, err error) {
	by, s := a[0].Text(), a[1].Text()
	switch {
	case len(a) > 2:
		return v, errors.New("a limit")
	case by == "":
		return v, errors.New("nothing to separate by")
	case a[0].Kind == php.Array || a[1].Kind == php.Array:
		return v, errArray
	}
	if err := r.charge(elementSize * strings.Count(s, by)); err != nil { // before they are made
		return v, err
	}
	var parts []php.Value
	for part := range strings.SplitSeq(s, by) {
		parts = append(parts, php.Of(part))
	}
	return php.Of(parts), nil
}

func implode(r *reader, a []php.Value) (php.Value, error) {
	list, by := a[len(a)-1], ""
	if len(a) == 2 && list.Kind != php.Array {
		list, by = a[0], a[1].Text()
	} else if len(a) == 2 {
		by = a[0].Text()
	}
	entries, err := elements(list)
	if err != nil {
		return list, err
	}
	size := len(by) * len(entries)
	for _, e := range entries {
		if e.Value.Kind == php.Array {
			return list, errArray
		}
		size += len(e.Value.Text())
	}
	if size > r.o.MaxResult {
		return list, errors.New("too long a text")
	}
	parts := make([]string, len(entries))
	for i, e := range entries {
		parts[i] = e.Value.Text()
	}
	return php.Of(strings.Join(parts, by)), nil
}

func replace(r *reader, a []php.Value) (php.Value, error) {
	search, by, s := a[0].Text(), a[1].Text(), a[2].Text()
	if err := scalars(a...); err != nil {
		return a[2], err
	}
	if search == "" {
		return php.Of(s), nil
	}
	if len(s)+strings.Count(s, search)*len(by) > r.o.MaxResult {
		return a[2], errors.New("too long a text")
	}
	return php.Of(strings.ReplaceAll(s, search, by)), nil
}

func substr(_ *reader, a []php.Value) (php.Value, error) {
	s, from := a[0].Text(), a[1].Int()
	size := int64(len(s))
	if from < 0 {
		from = max(size+from, 0)
	}
	from = min(from, size)
	to := size
	if len(a) > 2 && a[2].Kind != php.Null {
		if n := a[2].Int(); n < 0 {
			to = max(size+n, from)
		} else {
			to = from + min(n, size-from)
		}
	}
	return php.Of(s[from:to]), scalars(a[0])
}

func basename(_ *reader, a []php.Value) (php.Value, error) {
	s := strings.TrimRight(a[0].Text(), "/")
	s = s[strings.LastIndexByte(s, '/')+1:]
	if len(a) > 1 && s != a[1].Text() {
		s = strings.TrimSuffix(s, a[1].Text())
	}
	return php.Of(s), scalars(a[0])
}

func dirname(_ *reader, a []php.Value) (php.Value, error) {
	s, levels := a[0].Text(), int64(1)
	if len(a) > 1 {
		levels = a[1].Int()
	}
	if levels < 1 || levels > 64 {
		return a[0], errors.New("a number of folders that is not known here")
	}
	for ; levels > 0 && s != "" && s != "/"; levels-- {
		s = strings.TrimRight(s, "/")
		at := strings.LastIndexByte(s, '/')
		switch {
		case s == "":
			s = "/"
		case at < 0:
			s = "."
		default:
			if s = strings.TrimRight(s[:at], "/"); s == "" {
				s = "/"
			}
		}
	}
	return php.Of(s), scalars(a[0])
}

func inArray(_ *reader, a []php.Value) (php.Value, error) {
	entries, err := elements(a[1])
	strict := len(a) > 2 && a[2].Truth()
	for _, e := range entries {
		if strict && php.Identical(a[0], e.Value) || !strict && php.Equal(a[0], e.Value) {
			return php.Of(true), err
		}
	}
	return php.Of(false), err
}

// called calls the function that a text names, for an element of an array.
func (r *reader) called(name, v php.Value) (php.Value, error) {
	own, known := r.functions[strings.ToLower(name.Text())]
	given, added := r.o.Functions[strings.ToLower(name.Text())]
	var err error
	switch {
	case added:
		v, err = given(Args{Values: []php.Value{v}, reader: r})
	case name.Kind == php.String && known && own.least <= 1 && own.most >= 1:
		v, err = own.compute(r, []php.Value{v})
	default:
		err = errors.New("a function that is not known here")
	}
	if err != nil {
		return v, err
	}
	if err := r.chargeValue(v); err != nil { // now: there may be many elements
		return v, err
	}
	return v, nil
}

func arrayFilter(r *reader, a []php.Value) (php.Value, error) {
	entries, err := elements(a[0])
	var made php.Builder
	for _, e := range entries {
		keep := e.Value
		if len(a) > 1 && a[1].Kind != php.Null {
			if keep, err = r.called(a[1], e.Value); err != nil {
				return a[0], err
			}
		}
		if keep.Truth() {
			made.Set(e.Key, e.Value)
		}
	}
	return made.Value(), err
}

func arrayMap(r *reader, a []php.Value) (php.Value, error) {
	entries, err := elements(a[1])
	var made php.Builder
	for _, e := range entries {
		v, err := r.called(a[0], e.Value)
		if err != nil {
			return a[1], err
		}
		v.Line = e.Value.Line
		made.Set(e.Key, v)
	}
	return made.Value(), err
}

// remade makes an array of what add adds for each element of the first argument.
func remade(add func(made *php.Builder, e php.Element)) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		entries, err := elements(a[0])
		var made php.Builder
		for _, e := range entries {
			add(&made, e)
		}
		return made.Value(), err
	}
}

func arrayMerge(_ *reader, a []php.Value) (php.Value, error) {
	var made php.Builder
	for _, list := range a {
		entries, err := elements(list)
		if err != nil {
			return list, err
		}
		for _, e := range entries {
			k := e.Key
			if k.Value().Kind == php.Int {
				k = made.Next()
			}
			made.Set(k, e.Value)
		}
	}
	return made.Value(), nil
}

// arrayUnique keeps the first of the elements with equal texts.
func arrayUnique(_ *reader, a []php.Value) (php.Value, error) {
	entries, err := elements(a[0])
	made, seen := php.Builder{}, map[string]bool{}
	for _, e := range entries {
		if e.Value.Kind == php.Array {
			return a[0], errArray
		}
		if s := e.Value.Text(); !seen[s] {
			seen[s] = true
			made.Set(e.Key, e.Value)
		}
	}
	return made.Value(), err
}

func extreme(sign int64) compute {
	return func(_ *reader, a []php.Value) (php.Value, error) {
		best := a[0]
		for _, v := range a {
			if v.Kind != php.Int && v.Kind != php.Float {
				return v, errors.New("what is not a number")
			}
			if c, _ := php.Compute("<=>", v, best); c.Int()*sign > 0 {
				best = v
			}
		}
		return best, nil
	}
}

func filterVar(_ *reader, a []php.Value) (php.Value, error) {
	s := strings.Trim(a[0].Text(), " \t\n\r\v\x00")
	if a[0].Kind == php.Array {
		return a[0], errArray
	}
	switch a[1].Int() {
	case filterBool:
		switch lower(s) {
		case "1", "true", "on", "yes":
			return php.Of(true), nil
		}
		return php.Of(false), nil
	case filterInt:
		n, err := strconv.ParseInt(s, 10, 64)
		if digits := strings.TrimLeft(s, "+-"); err != nil || len(digits) > 1 && digits[0] == '0' {
			return php.Of(false), nil
		}
		return php.Of(n), nil
	}
	return a[0], errors.New("a filter that is not known here")
}

// parseURL computes parse_url for URLs of the form scheme://user:password@host:port/path?a#b,
// and for those that lack the scheme.
func parseURL(_ *reader, a []php.Value) (php.Value, error) {
	if a[0].Kind == php.Array {
		return a[0], errArray
	}
	parts, ok := cutURL(a[0].Text())
	if !ok {
		return a[0], errors.New("a URL of a form that is not known here")
	}
	if len(a) > 1 && a[1].Int() >= 0 {
		if n := a[1].Int(); n < int64(len(parts)) {
			return parts[n], nil
		}
		return a[0], errors.New("a part of a URL that is not known here")
	}
	var made php.Builder
	for i, name := range []string{"scheme", "host", "port", "user", "pass", "path", "query",
		"fragment"} {
		if parts[i].Kind != php.Null {
			made.Set(textKey(name), parts[i])
		}
	}
	return made.Value(), nil
}

// cutURL returns the parts of a URL in the order of PHP_URL_SCHEME and so on; a part that is
// missing is Null. ok is false for forms that PHP reads in its own way.
func cutURL(s string) (parts [8]php.Value, ok bool) {
	const scheme, host, port, user, pass, pathAt, query, fragment = 0, 1, 2, 3, 4, 5, 6, 7
	cut := func(by string, part int) {
		if before, after, found := strings.Cut(s, by); found {
			s, parts[part] = before, php.Of(after)
		}
	}
	if strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) >= 0 {
		return parts, false
	}
	cut("#", fragment)
	cut("?", query)
	before, rest, found := strings.Cut(s, "://")
	switch {
	case found && before != "" && strings.Trim(lower(before),
		"abcdefghijklmnopqrstuvwxyz0123456789+-.") == "":
		parts[scheme] = php.Of(before)
	case strings.HasPrefix(s, "//"):
		rest = s[2:]
	case strings.Contains(s, ":"):
		return parts, false
	default:
		if parts[query].Kind == php.Null && parts[fragment].Kind == php.Null || s != "" {
			parts[pathAt] = php.Of(s)
		}
		return parts, true
	}
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		parts[pathAt] = php.Of(rest[at:])
		rest = rest[:at]
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		name, password, has := strings.Cut(rest[:at], ":")
		if parts[user] = php.Of(name); has {
			parts[pass] = php.Of(password)
		}
		rest = rest[at+1:]
	}
	if at := strings.LastIndexByte(rest, ':'); at >= 0 && !strings.HasSuffix(rest, "]") {
		n, err := strconv.ParseUint(rest[at+1:], 10, 16)
		if err != nil || rest[at+1] == '+' || n == 0 {
			return parts, false
		}
		parts[port], rest = php.Of(int64(n)), rest[:at]
	}
	parts[host] = php.Of(rest)
	return parts, rest != ""
}

// jsonDecode computes json_decode with arrays for objects. The result is Null if the text is not
// JSON.
func jsonDecode(r *reader, a []php.Value) (v php.Value, err error) {
	if a[0].Kind == php.Array || !a[1].Truth() {
		return v, errors.New("something else than a text and true")
	}
	if s := a[0].Text(); json.Valid([]byte(s)) {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		return r.decode(d, 0)
	}
	return v, nil
}

// decode reads one value of valid JSON.
func (r *reader) decode(d *json.Decoder, depth int) (v php.Value, err error) {
	if depth > r.o.MaxDepth {
		return v, errors.New("JSON that is nested too deeply")
	}
	if err := r.charge(elementSize); err != nil {
		return v, err
	}
	t, err := d.Token()
	if err != nil && err != io.EOF {
		return v, errors.New("JSON that cannot be read")
	}
	switch t := t.(type) {
	case json.Delim:
		var made php.Builder
		for d.More() {
			k := made.Next()
			if t == '{' {
				name, _ := d.Token()
				text, _ := name.(string)
				k = textKey(text)
			}
			element, err := r.decode(d, depth+1)
			if err != nil {
				return v, err
			}
			made.Set(k, element)
		}
		d.Token() // its end
		return made.Value(), nil
	case json.Number:
		n, _, _ := php.Numeric(t.String())
		return n, nil
	case string:
		return php.Of(t), nil
	case bool:
		return php.Of(t), nil
	}
	return v, nil
}
