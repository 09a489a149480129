package phpfile

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/php"
)

type tokenKind uint8

const (
	tokenEnd      tokenKind = iota
	tokenBroken             // text says what is wrong
	tokenName               // text is the name: a keyword, a constant, a\qualified\name
	tokenVariable           // $name
	tokenInt                // text is the digits without _, with their prefix
	tokenFloat              // text is the number without _
	tokenText               // text is the value of the literal
	tokenMixed              // a literal with variables in it, or a command in backticks
	tokenMark               // text is the operator or bracket
)

// token is one token. Errors show only the text of a mark, since other texts may be secrets of the
// file.
type token struct {
	kind         tokenKind
	text         string
	at           int // offset of its first byte
	line, column int
}

// is says whether the token is this mark.
func (t token) is(mark string) bool { return t.kind == tokenMark && t.text == mark }

// word says whether the token is this keyword, in any case.
func (t token) word(name string) bool {
	return t.kind == tokenName &&
		strings.EqualFold(t.text, name)
}

// shown describes the token in errors.
func (t token) shown() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the file"
	case tokenName:
		return "a name"
	case tokenVariable:
		return "a variable"
	case tokenInt, tokenFloat:
		return "a number"
	case tokenText:
		return "a text"
	case tokenMixed:
		return "a text with variables in it"
	}
	return t.text
}

// lexer reads tokens. A copy of it is a place in the file that the reader can return to.
type lexer struct {
	src       string
	pos       int // behind tok
	line      int // of pos
	lineStart int // offset of the first byte of that line
	tok       token
}

// marks are the operators of more than one byte, the longer before the shorter.
var marks = []string{"<<=", "**=", "...", "<=>", "===", "!==", ">>=", "??=", "?->", "++", "--",
	"->",
	"=>", "::", "==", "!=", "<>", "<=", ">=", "&&", "||", "??", "<<", ">>", "+=", "-=", "*=", "/=",
	".=",
	"%=", "&=", "|=", "^=", "**", "|>", "?>", "#["}

// advance moves pos and counts the lines.
func (l *lexer) advance(to int) {
	for l.pos < to {
		n := strings.IndexAny(l.src[l.pos:to], "\r\n")
		if n < 0 {
			l.pos = to
			return
		}
		l.pos += n + 1
		if l.src[l.pos-1] == '\r' && l.pos < len(l.src) && l.src[l.pos] == '\n' {
			continue // the line feed counts
		}
		l.line++
		l.lineStart = l.pos
	}
}

// next reads the next token into tok.
func (l *lexer) next() {
	if l.tok.kind == tokenBroken {
		return
	}
	open := l.skipBlank()
	l.tok = token{kind: tokenEnd, at: l.pos, line: l.line, column: l.pos - l.lineStart + 1}
	if open {
		l.broken("a comment is not closed")
		return
	}
	if l.pos >= len(l.src) {
		return
	}
	rest := l.src[l.pos:]
	switch c := rest[0]; {
	case isDigit(c), c == '.' && len(rest) > 1 && isDigit(rest[1]):
		l.number(rest)
	case isNameStart(c), c == '\\' && len(rest) > 1 && isNameStart(rest[1]):
		l.name(rest)
	case c == '$' && len(rest) > 1 && isNameStart(rest[1]):
		l.take(tokenVariable, "", 1+nameLength(rest[1:]))
	case c == '\'':
		l.singleQuoted(rest)
	case c == '"', c == '`':
		l.doubleQuoted(rest)
	case strings.HasPrefix(rest, "<<<") && l.heredoc(rest):
	default:
		l.mark(rest)
	}
}

// take makes the next n bytes the token.
func (l *lexer) take(kind tokenKind, text string, n int) {
	l.tok.kind, l.tok.text = kind, text
	l.advance(l.pos + n)
}

func (l *lexer) broken(reason string) { l.tok.kind, l.tok.text = tokenBroken, reason }

// skipBlank skips spaces and comments. open says that a comment is not closed.
func (l *lexer) skipBlank() (open bool) {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.advance(l.pos + 1)
		case strings.HasPrefix(rest, "//"), rest[0] == '#' && !strings.HasPrefix(rest, "#["):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				end = len(rest)
			}
			if tag := strings.Index(rest[:end], "?>"); tag >= 0 { // ?> ends PHP even in a comment
				end = tag
			}
			l.advance(l.pos + end)
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return true
			}
			l.advance(l.pos + end + 4)
		default:
			return false
		}
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func nameLength(s string) int {
	n := 0
	for n < len(s) && (isNameStart(s[n]) || isDigit(s[n])) {
		n++
	}
	return n
}

// maxName bounds the bytes of a name. A namespace stands before every class: with a much larger
// bound a file with a long one would cost its square. No class has so long a name.
const maxName = 1 << 10

// name reads a name, which may have backslashes in it and before it.
func (l *lexer) name(rest string) {
	n := 0
	if rest[0] == '\\' {
		n = 1
	}
	n += nameLength(rest[n:])
	for n+1 < len(rest) && rest[n] == '\\' && isNameStart(rest[n+1]) {
		n += 1 + nameLength(rest[n+1:])
	}
	if n > maxName {
		l.broken("a name is too long")
		return
	}
	l.take(tokenName, rest[:n], n)
}

func (l *lexer) mark(rest string) {
	if strings.IndexByte("()[]{},;", rest[0]) >= 0 { // most of them: no longer mark begins so
		l.take(tokenMark, rest[:1], 1)
		return
	}
	for _, m := range marks {
		if strings.HasPrefix(rest, m) {
			l.take(tokenMark, m, len(m))
			return
		}
	}
	if rest[0] < ' ' || rest[0] >= 0x7f {
		l.broken("a control character stands outside of a text")
		return
	}
	l.take(tokenMark, rest[:1], 1)
}

// number reads a number (PHP: Zend/zend_language_scanner.l, LNUM, DNUM, HNUM, BNUM, ONUM).
func (l *lexer) number(rest string) {
	digits := func(from int, of string) int {
		n := from
		for n < len(rest) && (strings.IndexByte(of, rest[n]) >= 0 ||
			rest[n] == '_' && n > from && rest[n-1] != '_' && n+1 < len(rest) &&
				strings.IndexByte(of, rest[n+1]) >= 0) {
			n++
		}
		return n
	}
	const decimal = "0123456789"
	bases := map[string]string{"0x": hexDigits, "0b": "01", "0o": "01234567"}
	for prefix, of := range bases {
		if len(rest) > 2 && strings.EqualFold(rest[:2], prefix) {
			if n := digits(2, of); n > 2 {
				l.endNumber(tokenInt, rest, n)
				return
			}
		}
	}
	n, kind := digits(0, decimal), tokenInt
	if n < len(rest) && rest[n] == '.' && !strings.HasPrefix(rest[n:], "...") {
		n, kind = digits(n+1, decimal), tokenFloat
	}
	if n < len(rest) && (rest[n] == 'e' || rest[n] == 'E') {
		sign := n + 1
		if sign < len(rest) && (rest[sign] == '+' || rest[sign] == '-') {
			sign++
		}
		if end := digits(sign, decimal); end > sign {
			n, kind = end, tokenFloat
		}
	}
	l.endNumber(kind, rest, n)
}

func (l *lexer) endNumber(kind tokenKind, rest string, n int) {
	if n < len(rest) && (isNameStart(rest[n]) || isDigit(rest[n])) {
		l.broken("a number is followed by a letter")
		return
	}
	l.take(kind, strings.ReplaceAll(rest[:n], "_", ""), n)
}

// singleQuoted reads a text in which \' and \\ are the only escapes.
func (l *lexer) singleQuoted(rest string) {
	escapes := false
	for n := 1; n < len(rest); n++ {
		switch rest[n] {
		case '\\':
			escapes = true
			n++
		case '\'':
			text := rest[1:n]
			if escapes {
				text = singleEscapes.Replace(text)
			}
			l.take(tokenText, text, n+1)
			return
		}
	}
	l.broken("a text in single quotes is not closed")
}

var singleEscapes = strings.NewReplacer(`\\`, `\`, `\'`, `'`)

// doubleQuoted reads a text in double quotes, or a command in backticks.
func (l *lexer) doubleQuoted(rest string) {
	quote := rest[0]
	for n := 1; n < len(rest); n++ {
		switch rest[n] {
		case '\\':
			n++
		case quote:
			if quote == '`' {
				l.take(tokenMixed, "", n+1)
				return
			}
			l.escaped(rest[1:n], quote, n+1)
			return
		}
	}
	l.broken("a text in double quotes is not closed")
}

// escaped makes the next n bytes a token; text is its value, with the escapes replaced.
func (l *lexer) escaped(text string, quote byte, n int) {
	if hasVariable(text) {
		l.take(tokenMixed, "", n)
		return
	}
	out, ok := unescape(text, quote)
	if !ok {
		l.broken("a text has an escape of Unicode that is wrong")
		return
	}
	l.take(tokenText, out, n)
}

// hasVariable says whether PHP would replace a variable in a text: $name, ${, {$.
func hasVariable(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '$' && (isNameStart(s[i+1]) || s[i+1] == '{'), s[i] == '{' && s[i+1] == '$':
			return true
		}
	}
	return false
}

// unescape replaces the escapes of a text in double quotes, or of a heredoc, for which quote is 0
// (PHP: zend_scan_escape_string). A backslash that begins no escape stays.
func unescape(s string, quote byte) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		c := s[i]
		if at := strings.IndexByte(`nrtvef\$`, c); at >= 0 {
			b.WriteByte("\n\r\t\v\x1b\f\\$"[at])
			continue
		}
		switch {
		case c == quote:
			b.WriteByte(c)
		case c >= '0' && c <= '7':
			n := run(s[i:], 3, "01234567")
			v, _ := strconv.ParseUint(s[i:i+n], 8, 16)
			b.WriteByte(byte(v))
			i += n - 1
		case c == 'x' && run(s[i+1:], 2, hexDigits) > 0:
			n := run(s[i+1:], 2, hexDigits)
			v, _ := strconv.ParseUint(s[i+1:i+1+n], 16, 8)
			b.WriteByte(byte(v))
			i += n
		case c == 'u' && strings.HasPrefix(s[i+1:], "{"):
			digits, _, closed := strings.Cut(s[i+2:], "}")
			v, err := strconv.ParseUint(digits, 16, 32)
			if !closed || err != nil || v > utf8.MaxRune || strings.Contains(digits, "_") {
				return "", false
			}
			b.WriteString(encodeRune(rune(v)))
			i += len(digits) + 2
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

const hexDigits = "0123456789abcdefABCDEF"

// run is the number of bytes of the set at the start of s, at most limit.
func run(s string, limit int, set string) int {
	n := 0
	for n < min(limit, len(s)) && strings.IndexByte(set, s[n]) >= 0 {
		n++
	}
	return n
}

// encodeRune encodes as PHP does, which encodes halves of surrogate pairs too.
func encodeRune(r rune) string {
	if r >= 0xd800 && r <= 0xdfff {
		return string([]byte{0xe0 | byte(r>>12), 0x80 | byte(r>>6)&0x3f, 0x80 | byte(r)&0x3f})
	}
	return string(r)
}

// heredoc reads <<<NAME, <<<"NAME" or <<<'NAME'. ok is false if <<< does not begin a heredoc.
func (l *lexer) heredoc(rest string) (ok bool) {
	head := strings.TrimLeft(rest[3:], " \t")
	quote := ""
	if head != "" && (head[0] == '\'' || head[0] == '"') {
		quote, head = head[:1], head[1:]
	}
	n := nameLength(head)
	if n == 0 || isDigit(head[0]) || !strings.HasPrefix(head[n:], quote) {
		return false
	}
	name, body := head[:n], head[n+len(quote):]
	_, first := cutLine(body)
	if first == body || strings.Trim(body[:len(body)-len(first)], "\r\n") != "" {
		return false
	}
	for lines := first; lines != ""; {
		line, after := cutLine(lines)
		word := strings.TrimLeft(line, " \t")
		if strings.HasPrefix(word, name) && nameLength(word) == len(name) {
			text, same := unindent(first[:len(first)-len(lines)], line[:len(line)-len(word)])
			size := len(rest) - len(lines) + len(line) - len(word) + len(name)
			switch {
			case !same:
				l.broken("a line of a heredoc is indented less than its end")
			case quote == "'":
				l.take(tokenText, text, size)
			default:
				l.escaped(text, 0, size)
			}
			return true
		}
		lines = after
	}
	l.broken("a heredoc is not closed")
	return true
}

// cutLine returns the first line with its line end, and the rest.
func cutLine(s string) (line, after string) {
	n := strings.IndexAny(s, "\r\n")
	if n < 0 {
		return s, ""
	}
	if s[n] == '\r' && n+1 < len(s) && s[n+1] == '\n' {
		n++
	}
	return s[:n+1], s[n+1:]
}

// unindent removes the indentation of every line that is not empty, and the last line end.
func unindent(body, indent string) (text string, ok bool) {
	var b strings.Builder
	for body != "" {
		line, after := cutLine(body)
		if strings.Trim(line, "\r\n") != "" {
			if !strings.HasPrefix(line, indent) {
				return "", false
			}
			line = line[len(indent):]
		}
		if after == "" {
			line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		}
		b.WriteString(line)
		body = after
	}
	return b.String(), true
}

// parseNumber reads the token of a number. A number that is too large for an int is a float.
func parseNumber(s string, float bool) (v php.Value, ok bool) {
	if float {
		f, _ := strconv.ParseFloat(s, 64) // too large is infinite, as in PHP
		return php.Of(f), true
	}
	digits, base := strings.ToLower(s), 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		digits, base = digits[2:], 16
	case strings.HasPrefix(digits, "0b"):
		digits, base = digits[2:], 2
	case strings.HasPrefix(digits, "0o"):
		digits, base = digits[2:], 8
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	n, err := strconv.ParseInt(digits, base, 64)
	if err == nil {
		return php.Of(n), true
	}
	f := 0.0
	for _, c := range digits {
		d := strings.IndexRune(hexDigits[:16], c)
		if d < 0 || d >= base {
			return v, false
		}
		f = f*float64(base) + float64(d)
	}
	if base == 10 {
		f, _ = strconv.ParseFloat(digits, 64)
	}
	return php.Of(f), true
}
