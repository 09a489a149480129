package phpfile

import (
	"strings"

	"reverb/internal/lib/php"
)

// elementSize is the number of bytes that an element of an array counts towards Options.MaxResult,
// in addition to its texts. An element takes about as much memory. A smaller number would let an
// array of many small elements take more memory than MaxResult.
const elementSize = 64

// array reads the elements of an array to its closing bracket. An element that the reader does not
// know becomes an Unknown value. If its key is not known, the error says so: the whole array is not
// known.
func (r *reader) array(closing string, live bool) (php.Value, *Error) {
	var keep func(string) bool
	if !r.outermost {
		r.outermost, keep = true, r.o.Keep
	}
	made := &php.Builder{}
	var lost *Error // why the keys are not known
	for !r.tok.is(closing) {
		err := r.element(made, keep, live)
		if err != nil && err.fatal {
			return php.Value{}, err
		}
		if err != nil && lost == nil {
			lost = err
		}
		if !r.tok.is(closing) && !r.tok.is(",") {
			return php.Value{}, r.syntax(r.tok, "%s stands where , or %s is expected",
				r.tok.shown(), closing)
		}
		if r.tok.is(",") {
			r.next()
		}
	}
	r.next()
	return made.Value(), lost
}

// element reads one element up to the comma or bracket behind it. An error that is not fatal
// says that its key is not known.
func (r *reader) element(made *php.Builder, keep func(string) bool, live bool) *Error {
	if err := r.step(1); err != nil {
		return err
	}
	start := r.lexer
	if r.tok.is("...") {
		return r.spread(made, live)
	}
	v, err := r.expression(0, live)
	if err != nil {
		keyed, err := r.resume(start, err)
		if err != nil && (err.fatal || keyed) {
			return err
		}
		return r.add(made, made.Next(), php.Lost(err, err.Line), live)
	}
	if !r.tok.is("=>") {
		return r.add(made, made.Next(), v, live)
	}
	arrow := r.tok
	k, ok := php.KeyOf(v)
	r.next()
	if live && (!ok || v.Problem() != nil) {
		_, err := r.resume(r.lexer, r.unknown(arrow, "the key of an element is %s", v.TypeName()))
		return err
	}
	start = r.lexer
	if keep != nil && live && !keep(k.String()) {
		_, err := r.resume(start, r.unknown(arrow, ""))
		if err.fatal {
			return err
		}
		return nil
	}
	if v, err = r.expression(0, live); err != nil {
		if _, err = r.resume(start, err); err.fatal {
			return err
		}
		v = php.Lost(err, err.Line)
	}
	return r.add(made, k, v, live)
}

// add adds an element.
func (r *reader) add(made *php.Builder, k php.Key, v php.Value, live bool) *Error {
	if !live {
		return nil
	}
	if err := r.charge(elementSize + len(k.String())); err != nil {
		return err
	}
	made.Set(k, v)
	return nil
}

// spread reads ...array: its elements get new numbers as keys, or keep their names.
func (r *reader) spread(made *php.Builder, live bool) *Error {
	start := r.lexer
	r.next()
	v, err := r.expression(0, live)
	if err == nil && live && v.Kind != php.Array {
		err = r.unknown(start.tok, "... is given %s", v.TypeName())
	}
	if err != nil {
		_, err = r.resume(start, err)
		return err
	}
	if !live {
		return nil
	}
	for _, e := range v.Elements() {
		k := e.Key
		if k.Value().Kind == php.Int {
			k = made.Next()
		}
		if err := r.add(made, k, e.Value, live); err != nil {
			return err
		}
	}
	return nil
}

// resume goes back to the place where an element begins, and skips the element. It returns cause,
// the error of the element, unless it meets an error that PHP would report too. keyed says that the
// element has a key of its own.
func (r *reader) resume(start lexer, cause *Error) (keyed bool, err *Error) {
	if cause.fatal {
		return false, cause
	}
	r.lexer = start
	var open []byte
	arrow := false // of fn
	for {
		t := r.tok
		switch {
		case t.kind == tokenBroken, t.kind == tokenEnd:
			return keyed, r.syntax(t, "%s stands inside of an array", t.shown())
		case t.kind == tokenMark && len(t.text) == 1 && strings.Contains("([{", t.text), t.is("#["):
			open = append(open, t.text[len(t.text)-1])
		case t.is(")"), t.is("]"), t.is("}"):
			if len(open) == 0 {
				return keyed, cause
			}
			if last := open[len(open)-1]; !strings.Contains("()[]{}", string(last)+t.text) {
				return keyed, r.syntax(t, "%s does not close %c", t.text, last)
			}
			open = open[:len(open)-1]
		case len(open) > 0:
		case t.is(","):
			return keyed, cause
		case t.is(";"):
			return keyed, r.syntax(t, "; stands inside of an array")
		case t.word("fn"):
			arrow = true
		case t.is("=>"):
			keyed, arrow = keyed || !arrow, false
		}
		r.next()
	}
}

// call reads the arguments of a call and computes it.
func (r *reader) call(at token, name string, live bool) (php.Value, *Error) {
	r.next()
	args := Args{reader: r}
	for !r.tok.is(")") {
		start := r.lexer
		argName := ""
		if r.tok.kind == tokenName {
			if r.next(); r.tok.is(":") {
				argName = start.tok.text
				r.next()
			} else {
				r.lexer = start
			}
		}
		if r.tok.is("...") {
			// strtolower(...) names the function
			if r.next(); r.tok.is(")") && len(args.Values) == 0 {
				r.next()
				return php.Of(name), r.charge(len(name))
			}
			return php.Value{}, r.unknown(start.tok, "... among arguments is not known here")
		}
		v, err := r.expression(0, live)
		if err != nil {
			return php.Value{}, err
		}
		if err := r.whole(at, v); err != nil {
			return php.Value{}, err
		}
		if argName != "" {
			if args.Named == nil {
				args.Named = map[string]php.Value{}
			}
			args.Named[argName] = v
		} else {
			args.Values = append(args.Values, v)
		}
		if !r.tok.is(",") && !r.tok.is(")") {
			return php.Value{}, r.syntax(r.tok, "%s stands where , or ) is expected", r.tok.shown())
		}
		if r.tok.is(",") {
			r.next()
		}
	}
	r.next()
	if !live {
		return php.Value{}, nil
	}
	v, err := r.apply(at, name, args)
	if err != nil {
		return v, err
	}
	return r.at(v, at), nil
}
