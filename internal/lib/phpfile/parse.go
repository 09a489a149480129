package phpfile

import (
	"errors"
	"strings"

	"reverb/internal/lib/php"
)

// file reads the statements of the file: declare, namespace, use and the last one, return.
func (r *reader) file() (php.Value, *Error) {
	if !strings.EqualFold(r.src[:min(5, len(r.src))], "<?php") ||
		len(r.src) > 5 && strings.IndexByte(" \t\r\n", r.src[5]) < 0 {
		return php.Value{}, r.error(token{line: 1, column: 1}, true,
			"the file does not begin with <?php")
	}
	r.advance(5)
	r.next()
	for {
		var err *Error
		switch at := r.tok; {
		case at.word("return"):
			return r.returned()
		case at.word("use"):
			err = r.use()
		case at.word("declare"):
			err = r.declare()
		case at.word("namespace"):
			if r.next(); r.tok.kind == tokenName {
				r.namespace = strings.TrimPrefix(r.tok.text, `\`) + `\`
				r.next()
			}
			err = r.expect(";")
		case at.is(";"):
			r.next()
		case at.kind == tokenEnd:
			err = r.error(at, true, "the file returns nothing")
		default:
			err = r.syntax(at, "%s begins a statement, and the one that is read is return",
				at.shown())
		}
		if err != nil {
			return php.Value{}, err
		}
	}
}

func (r *reader) returned() (php.Value, *Error) {
	r.next()
	v, err := r.expression(0, true)
	if err != nil {
		return v, err
	}
	for r.tok.is(";") {
		r.next()
	}
	if r.tok.kind != tokenEnd && !r.tok.is("?>") {
		return v, r.syntax(r.tok, "%s follows the value that is returned", r.tok.shown())
	}
	return v, nil
}

// expect reads one mark.
func (r *reader) expect(mark string) *Error {
	if !r.tok.is(mark) {
		return r.syntax(r.tok, "%s stands where %s is expected", r.tok.shown(), mark)
	}
	r.next()
	return nil
}

// declare reads declare(strict_types=1), which changes nothing here.
func (r *reader) declare() *Error {
	r.next()
	if err := r.expect("("); err != nil {
		return err
	}
	for !r.tok.is(")") {
		if r.tok.kind != tokenName && r.tok.kind != tokenInt && !r.tok.is("=") && !r.tok.is(",") {
			return r.syntax(r.tok, "%s stands in a declaration", r.tok.shown())
		}
		r.next()
	}
	r.next()
	return r.expect(";")
}

// use reads use A\B; use A\B as C; use A\{B, C as D}. It ignores names of functions and constants.
func (r *reader) use() *Error {
	r.next()
	uses := r.uses
	if r.tok.word("function") || r.tok.word("const") {
		uses = map[string]string{}
		r.next()
	}
	for {
		name, err := r.used("", uses)
		if err != nil {
			return err
		}
		if r.tok.is("{") {
			for !r.tok.is("}") {
				if r.next(); r.tok.is("}") {
					break
				}
				if _, err := r.used(name, uses); err != nil {
					return err
				}
				if !r.tok.is(",") && !r.tok.is("}") {
					return r.syntax(r.tok, "%s stands in a use statement", r.tok.shown())
				}
			}
			r.next()
		}
		if !r.tok.is(",") {
			return r.expect(";")
		}
		r.next()
	}
}

// used reads one name of a use statement, and adds it to uses.
func (r *reader) used(prefix string, uses map[string]string) (name string, err *Error) {
	if r.tok.kind != tokenName {
		return "", r.syntax(r.tok, "%s stands in a use statement", r.tok.shown())
	}
	if err := r.charge(elementSize + len(prefix) + len(r.tok.text)); err != nil {
		return "", err
	}
	name = prefix + strings.TrimPrefix(r.tok.text, `\`)
	short := name[strings.LastIndexByte(name, '\\')+1:]
	if r.next(); r.tok.is(`\`) { // A\{
		r.next()
		return name + `\`, nil
	}
	if r.tok.word("as") {
		if r.next(); r.tok.kind != tokenName {
			return "", r.syntax(r.tok, "%s stands in a use statement", r.tok.shown())
		}
		short = r.tok.text
		r.next()
	}
	uses[strings.ToLower(short)] = name
	return name, nil
}

// class is the full name of a class.
func (r *reader) class(name string) string {
	if full, ok := strings.CutPrefix(name, `\`); ok {
		return full
	}
	first, rest, qualified := strings.Cut(name, `\`)
	full, ok := r.uses[strings.ToLower(first)]
	switch {
	case !ok:
		return r.namespace + name
	case qualified:
		return full + `\` + rest
	}
	return full
}

// precedences are PHP's binary operators; an operator with a higher number binds tighter.
var precedences = map[string]int{
	"or": 1, "xor": 2, "and": 3, "?": 5, "??": 6, "||": 7, "&&": 8, "|": 9, "^": 10, "&": 11,
	"==": 12, "!=": 12, "<>": 12, "===": 12, "!==": 12, "<=>": 12,
	"<": 13, "<=": 13, ">": 13, ">=": 13, ".": 14, "<<": 15, ">>": 15, "+": 16, "-": 16,
	"*": 17, "/": 17, "%": 17, "**": 21,
}

const (
	precedenceTernary = 5
	precedenceNot     = 18
	precedenceUnary   = 20
)

// operator returns the name of a binary operator and its precedence. ok is false for all other
// tokens.
func (t token) operator() (name string, precedence int, ok bool) {
	switch t.kind {
	case tokenMark:
		name = t.text
	case tokenName:
		name = strings.ToLower(t.text)
	}
	precedence, ok = precedences[name]
	return name, precedence, ok
}

// expression reads an expression of operators that bind at least as tight as lowest. If live is
// false, PHP would not evaluate the expression: the reader checks its syntax, and its value means
// nothing.
func (r *reader) expression(lowest int, live bool) (php.Value, *Error) {
	if r.depth++; r.depth > r.o.MaxDepth {
		return php.Value{}, r.error(r.tok, true, "the file is nested deeper than %d", r.o.MaxDepth)
	}
	defer func() { r.depth-- }()
	left, err := r.unary(live)
	for err == nil {
		at := r.tok
		name, precedence, ok := at.operator()
		if !ok {
			return left, r.endsWell(at)
		}
		if precedence < lowest {
			return left, nil
		}
		if err = r.step(1); err == nil {
			left, err = r.binary(left, at, name, precedence, live)
		}
	}
	return left, err
}

// endsWell is an error if the token behind a complete expression is an operator that the reader
// does not know.
func (r *reader) endsWell(at token) *Error {
	switch {
	case at.kind == tokenBroken:
		return r.syntax(at, "")
	case at.word("instanceof"):
		return r.unknown(at, "instanceof is not known here")
	case at.kind != tokenMark || strings.Contains(")]},;:", at.text) || at.is("=>") || at.is("?>"):
		return nil
	}
	return r.unknown(at, "the operator %s is not known here", at.text)
}

// binary reads the right side of an operator and computes the result.
func (r *reader) binary(left php.Value, at token, name string, precedence int,
	live bool) (php.Value, *Error) {
	r.next()
	switch name {
	case "?":
		return r.ternary(left, at, live)
	case "??":
		right, err := r.expression(precedence, live && left.Kind == php.Null)
		if err == nil && live && left.Kind == php.Null {
			left = right
		}
		return left, err
	case "&&", "||", "and", "or":
		if err := r.whole(at, left); err != nil {
			return php.Value{}, err
		}
		either := name == "||" || name == "or"
		decided := left.Truth() == either // PHP does not evaluate the right side
		right, err := r.expression(precedence+1, live && !decided)
		if err == nil && !decided {
			err = r.whole(at, right)
		}
		return r.at(php.Of(decided && either || !decided && right.Truth()), at), err
	case "**":
		precedence-- // binds to the right
	}
	right, err := r.expression(precedence+1, live)
	if err != nil || !live {
		return php.Value{}, err
	}
	if _, next, ok := r.tok.operator(); ok && next == precedence &&
		(precedence == 12 || precedence == 13) {
		return php.Value{}, r.syntax(r.tok, "comparisons stand in a row without brackets")
	}
	if err := r.whole(at, left, right); err != nil {
		return php.Value{}, err
	}
	if name == "." && left.Size()+right.Size() > r.o.MaxResult {
		return php.Value{}, r.charge(left.Size() + right.Size())
	}
	v, reason := php.Compute(name, left, right)
	if reason != "" {
		return php.Value{}, r.unknown(at, "the operator %s is given %s", name, reason)
	}
	v.Line = left.Line
	return v, r.chargeValue(v)
}

// ternary reads the rest of a ? b : c, or of a ?: c, behind the question mark.
func (r *reader) ternary(condition php.Value, at token, live bool) (php.Value, *Error) {
	if err := r.whole(at, condition); err != nil {
		return php.Value{}, err
	}
	truth, then, short := condition.Truth(), condition, r.tok.is(":")
	if !short {
		var err *Error
		if then, err = r.expression(0, live && truth); err != nil {
			return php.Value{}, err
		}
	}
	if err := r.expect(":"); err != nil {
		return php.Value{}, err
	}
	otherwise, err := r.expression(precedenceTernary+1, live && !truth)
	if err != nil {
		return php.Value{}, err
	}
	if r.tok.is("?") && !short {
		return php.Value{}, r.syntax(r.tok, "conditions stand in a row without brackets")
	}
	if truth {
		return then, nil
	}
	return otherwise, nil
}

// whole is an error if one of the values has a Problem.
func (r *reader) whole(at token, values ...php.Value) *Error {
	for _, v := range values {
		if v.Problem() != nil {
			return r.lost(at, v)
		}
	}
	return nil
}

// lost is the error of a value that has a Problem.
func (r *reader) lost(at token, v php.Value) (err *Error) {
	if !errors.As(v.Problem(), &err) { // a function has made it
		err = r.unknown(at, "%v", v.Problem())
	}
	return err
}

// unary reads the operators before an operand, and the operand.
func (r *reader) unary(live bool) (php.Value, *Error) {
	at := r.tok
	precedence := precedenceUnary
	switch {
	case at.is("!"):
		precedence = precedenceNot
	case at.is("-"), at.is("+"), at.is("~"), at.is("@"):
	case at.is("("):
		return r.bracketed(live)
	default:
		return r.operand(live)
	}
	r.next()
	v, err := r.expression(precedence, live)
	if err != nil || !live || at.is("@") {
		return v, err
	}
	if err := r.whole(at, v); err != nil {
		return php.Value{}, err
	}
	reason := ""
	switch at.text {
	case "!":
		v = php.Of(!v.Truth())
	case "~":
		if v.Kind != php.Int {
			return v, r.unknown(at, "the operator ~ is given %s", v.TypeName())
		}
		v = php.Of(^v.Int())
	case "-":
		v, reason = php.Compute("*", v, php.Of(int64(-1)))
	case "+":
		v, reason = php.Compute("*", v, php.Of(int64(1)))
	}
	if reason != "" {
		return v, r.unknown(at, "the operator %s is given %s", at.text, reason)
	}
	return r.at(v, at), nil
}

// bracketed reads (expression), or a cast and its operand.
func (r *reader) bracketed(live bool) (php.Value, *Error) {
	at := r.tok
	r.next()
	if r.tok.kind == tokenName {
		place, kind := r.lexer, strings.ToLower(r.tok.text)
		if r.next(); r.tok.is(")") && php.IsCast(kind) {
			r.next()
			v, err := r.expression(precedenceUnary, live)
			if err != nil || !live {
				return v, err
			}
			if err := r.whole(at, v); err != nil {
				return php.Value{}, err
			}
			v, reason := php.Cast(kind, v)
			if reason != "" {
				return v, r.unknown(at, "a cast makes %s", reason)
			}
			return r.at(v, at), r.chargeValue(v)
		}
		r.lexer = place
	}
	v, err := r.expression(0, live)
	if err == nil {
		err = r.expect(")")
	}
	if err == nil {
		v, err = r.postfix(v, live)
	}
	return v, err
}

// at gives a value the line of a token.
func (r *reader) at(v php.Value, t token) php.Value {
	v.Line = t.line
	return v
}

// operand reads a literal, an array, a constant or a call, and the brackets [key] behind it.
func (r *reader) operand(live bool) (v php.Value, err *Error) {
	at := r.tok
	if err := r.step(1); err != nil {
		return v, err
	}
	switch {
	case at.kind == tokenText:
		v, err = php.Of(at.text), r.charge(len(at.text))
		r.next()
	case at.kind == tokenInt, at.kind == tokenFloat:
		var ok bool
		if v, ok = parseNumber(at.text, at.kind == tokenFloat); !ok {
			err = r.syntax(at, "a number has a digit that is none of its base")
		}
		r.next()
	case at.is("["):
		r.next()
		v, err = r.array("]", live)
	case at.kind == tokenName:
		v, err = r.named(live)
	case at.kind == tokenMixed, at.kind == tokenVariable, at.is("#["), at.is("&"), at.is("++"),
		at.is("--"):
		err = r.unknown(at, "%s is not known here", at.shown())
	default:
		err = r.syntax(at, "%s stands where a value is expected", at.shown())
	}
	if err != nil {
		return v, err
	}
	if v.Line == 0 {
		v.Line = at.line
	}
	return r.postfix(v, live)
}

// postfix reads [key] behind an operand. The reader does not know members and calls of a value.
func (r *reader) postfix(v php.Value, live bool) (php.Value, *Error) {
	for {
		at := r.tok
		switch {
		case at.is("->"), at.is("?->"), at.is("("), at.is("::"), at.is("++"), at.is("--"),
			at.is("{"):
			return v, r.unknown(at, "%s behind a value is not known here", at.text)
		case !at.is("["):
			return v, nil
		}
		r.next()
		key, err := r.expression(0, live)
		if err == nil {
			err = r.expect("]")
		}
		if err == nil && live {
			err = r.whole(at, key)
		}
		if err != nil {
			return v, err
		}
		if !live {
			continue
		}
		k, ok := php.KeyOf(key)
		if v.Kind != php.Array || !ok {
			return v, r.unknown(at, "[ behind %s is not known here", v.TypeName())
		}
		if v = v.At(k); v.Kind == php.Unknown {
			return v, r.lost(at, v)
		}
	}
}

// beyond are keywords of constructs that PHP has and the reader does not know.
var beyond = []string{"fn", "function", "static", "new", "match", "include", "include_once",
	"require",
	"require_once", "throw", "clone", "print", "yield", "exit", "die", "isset", "eval", "list",
	"echo"}

// named reads an operand that begins with a name: a keyword, a call, a constant, Class::something.
func (r *reader) named(live bool) (php.Value, *Error) {
	at := r.tok
	for _, word := range beyond {
		if at.word(word) {
			return php.Value{}, r.unknown(at, "%s is not known here", word)
		}
	}
	r.next()
	array := at.word("array")
	switch {
	case r.tok.is("(") && array:
		r.next()
		return r.array(")", live)
	case r.tok.is("("):
		return r.call(at, r.function(at.text), live)
	case !r.tok.is("::"):
		v, ok := r.constant(at.text, at.line)
		if !ok && live {
			return v, r.unknown(at, "a constant is not known here")
		}
		return v, r.charge(v.Size())
	}
	r.next()
	member := r.tok
	if member.kind != tokenName {
		return php.Value{}, r.unknown(member, ":: and %s are not known here", member.shown())
	}
	r.next()
	class := r.class(at.text)
	switch {
	case r.tok.is("("):
		return r.call(at, class+"::"+member.text, live)
	case member.word("class"):
		return php.Of(class), r.charge(len(class))
	}
	return php.Value{}, r.unknown(at, "a constant of a class is not known here")
}

// function is the name of a function without a namespace.
func (r *reader) function(name string) string { return name[strings.LastIndexByte(name, '\\')+1:] }
