package protocol

import (
	"crypto/md5"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// paramsOf is a query as parameters.
func paramsOf(t *testing.T, query map[string]string) (q Params) {
	t.Helper()
	for name, value := range query {
		var err error
		if q, err = q.add(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return q
}

// Queries are read as PHP reads them and as they were signed, or are refused.
func TestQueries(t *testing.T) {
	for _, c := range []struct {
		raw   string
		texts []string          // by nameForm; the last counts for those that follow
		want  map[string]string // by lower-case name
		fail  string
	}{
		{"", []string{""}, map[string]string{"info": ""}, ""},
		{"&a&&b=&c=d=e&", []string{"a=&b=&c=d=e"}, map[string]string{"a": "", "b": "", "c": "d=e"},
			""},
		{"filter_by_prefix=venue@id=1;date=2,3", []string{"filter_by_prefix=venue@id=1;date=2,3"},
			map[string]string{"filter_by_prefix": "venue@id=1;date=2,3"}, ""},
		{";=;&a;b=c", []string{";=;&a;b=c"}, map[string]string{";": ";", "a;b": "c"}, ""},
		{`a={"x"|y}&b=` + "\xff\u00fc" + "&\u00fc=1",
			[]string{`a={"x"|y}&b=` + "\xff\u00fc&\u00fc=1"},
			map[string]string{"a": `{"x"|y}`, "b": "\xff\u00fc", "\u00fc": "1"}, ""},
		{"a=x+y%20z%3D", []string{"a=x y z="}, map[string]string{"a": "x y z="}, ""},
		{"a-b=1&a=2", []string{"a=2&a-b=1"}, nil, ""},
		// Lists.
		{"info[0]=a&info[1]=b", []string{"info=a,b", "info=a,b", "info[0]=a&info[1]=b"},
			map[string]string{"info": "a,b", "info[0]": ""}, ""},
		{"info[]=b&x=1&info[]=a", []string{"info=b,a&x=1", "info=b,a&x=1", "info[]=b&info[]=a&x=1"},
			map[string]string{"info": "b,a"}, ""},
		{"info%5B0%5D=a&info%5b1%5d=b", []string{"info=a,b"}, map[string]string{"info": "a,b"}, ""},
		// PHP keeps the order
		{"info[7]=a&info[1]=b&info[k]=c", []string{"info=a,b,c"},
			map[string]string{"info": "a,b,c"}, ""},
		{"info[0]=a&info[1]=b&info[0]=c", []string{"info=c,b"}, map[string]string{"info": "c,b"},
			""},
		{"Info[0]=a&Info[1]=b", []string{"info=a,b", "Info=a,b", "Info[0]=a&Info[1]=b"},
			map[string]string{"info": "a,b"}, ""},
		{"info[]=&info[]=", []string{"info=,"}, map[string]string{"info": ","}, ""},
		{"a[b][c]=1&[]=2&a[b=3&a]=4&a[]b=5&[x]=6",
			[]string{"[]=2&[x]=6&a[]b=5&a[b=3&a[b][c]=1&a]=4"}, map[string]string{"a": ""}, ""},
		// Names.
		{"a=1&a=2", []string{"a=2"}, map[string]string{"a": "2"}, ""},
		{"FILTER_BY_PREFIX=a", []string{"filter_by_prefix=a", "FILTER_BY_PREFIX=a"},
			map[string]string{"filter_by_prefix": "a"}, ""},
		{"Zed=1&auth_key=k&AUTH_signature=s", []string{"auth_key=k&zed=1", "Zed=1&auth_key=k"},
			map[string]string{"zed": "1", "auth_signature": "s"}, ""},
		{"body_md5=a&BODY_MD5=b", nil, nil, `"body_md5" and "BODY_MD5" are one parameter`},
		{"info=a&info[]=b", nil, nil, `"info" and "info[]" are one parameter`},
		{"info[0]=a&info=b", nil, nil, `"info[0]" and "info" are one parameter`},
		{"info[0]=a&Info[1]=b", nil, nil, `"info[0]" and "Info[1]" are one parameter`},
		{"a=%zz", nil, nil, `"%zz"`},
		// The same text for a signature, cut otherwise.
		{"filter_by_prefix%3Dmine-%26info=user_count", nil, nil,
			`the name of the parameter "filter_by_prefix=mine-&info" has a =`},
		{"a%26b=1", nil, nil, `the name of the parameter "a&b" has a &`},
		{"filter_by_prefix=mine-%26info%3Duser_count", nil, nil,
			`the value of the parameter "filter_by_prefix" has a &`},
		{"auth_signature=%26", nil, nil, `the value of the parameter "auth_signature" has a &`},
	} {
		q, err := ParseQuery(nil, c.raw)
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%q: got %v, want %s", c.raw, err, c.fail)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.raw, err)
			continue
		}
		for form := nameLower; form <= nameSent; form++ {
			if form > nameAsIs && len(c.texts) < 3 {
				break // info%5B0%5D and the like, where it does not matter
			}
			var s signer
			s.setText("get", "/ws", "/p", q, form)
			if got, want := string(s.text),
				"GET\n/ws/p\n"+c.texts[min(int(form), len(c.texts)-1)]; got != want {
				t.Errorf("%q: form %d: got %q, want %q", c.raw, form, got, want)
			}
		}
		for name, want := range c.want {
			if got := q.Get(name); got != want {
				t.Errorf("%q: %s is %q, want %q", c.raw, name, got, want)
			}
		}
	}
	if _, err := ParseQuery(nil, strings.Repeat("a[]=&", maxParameters)); err != nil {
		t.Error(err)
	}
	if _, err := ParseQuery(nil, strings.Repeat("a[]=&", maxParameters+1)); err == nil {
		t.Error("a list has no bound")
	}
	if _, err := ParseQuery(nil, strings.Repeat("a=&", maxParameters+1)); err == nil {
		t.Error("one parameter can be said without bound")
	}
}

// A path may be signed as it came, with and without the prefix, decoded, and escaped as
// a whole; never so that it could be the path of another request.
func TestSignedPaths(t *testing.T) {
	a := &Credentials{ID: "1", Key: "key", Secret: "s3cr3t"}
	for _, c := range []struct {
		path   RequestPath
		signed string
		want   bool
	}{
		{RequestPath{"", "/apps/1/users/u%201/x", "/apps/1/users/u%201/x"}, "/apps/1/users/u%201/x",
			true},
		{RequestPath{"", "/apps/1/users/u%201/x", "/apps/1/users/u%201/x"}, "/apps/1/users/u 1/x",
			true},
		{RequestPath{"", "/apps/1/users/u%201/x", "/apps/1/users/u%201/x"}, "/apps/1/users/u+1/x",
			false},
		// nginx unescapes it
		{RequestPath{"", "/apps/1/users/e@x/x", "/apps/1/users/e@x/x"}, "/apps/1/users/e%40x/x",
			true},
		{RequestPath{"", "/apps/1/users/e%40x/x", "/apps/1/users/e%40x/x"}, "/apps/1/users/e@x/x",
			true},
		{RequestPath{"/ws", "/apps/1/users/u%201/x", "/ws/apps/1/users/u%201/x"},
			"/apps/1/users/u 1/x", true},
		{RequestPath{"/ws", "/apps/1/users/u%201/x", "/ws/apps/1/users/u%201/x"},
			"/ws/apps/1/users/u 1/x", true},
		{RequestPath{"/ws", "/apps/1/users/e@x/x", "/ws/apps/1/users/e@x/x"},
			"/ws/apps/1/users/e%40x/x", true},
		{RequestPath{"/ws", "/apps/1/events", "/ws//apps/1/events"}, "/apps/1/events", true},
		{RequestPath{"/ws", "/apps/1/events", "/ws//apps/1/events"}, "/ws/apps/1/events", true},
		{RequestPath{"/ws", "/apps/1/events", "/ws//apps/1/events"}, "/ws//apps/1/events", true},
		{RequestPath{"/ws", "/apps/1/events", "/ws/apps/1/events"}, "/x/apps/1/events", false},
		// The user a% is not the user a%25.
		{RequestPath{"", "/apps/1/users/a%2525/x", "/apps/1/users/a%2525/x"},
			"/apps/1/users/a%25/x", false},
		{RequestPath{"", "/apps/1/users/a%25/x", "/apps/1/users/a%25/x"}, "/apps/1/users/a%/x",
			true},
		{RequestPath{"", "/apps/1/users/a%2Fb/x", "/apps/1/users/a%2Fb/x"},
			"/apps/1/users/a%2Fb/x", true},
		{RequestPath{"", "/apps/1/users/a%2fb/x", "/apps/1/users/a%2fb/x"},
			"/apps/1/users/a%2Fb/x", true},
		{RequestPath{"", "/apps/1/users/a%2Fb/x", "/apps/1/users/a%2Fb/x"},
			"/apps/1/users/a/b/x", true},
		// The user a%2Fb is not the user a/b.
		{RequestPath{"", "/apps/1/users/a%252Fb/x", "/apps/1/users/a%252Fb/x"},
			"/apps/1/users/a%2Fb/x", false},
		{RequestPath{"", "/apps/1/channels/a%0Ab", "/apps/1/channels/a%0Ab"},
			"/apps/1/channels/a\nb", false},
	} {
		q := signedQuery(a, "POST", c.signed, "", time.Unix(0, 0), nil)
		if got := a.validSignature("POST", &c.path, paramsOf(t, q)); got != c.want {
			t.Errorf("%+v signed as %s: got %v", c.path, c.signed, got)
		}
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("auth_key=key&auth_timestamp=1&auth_version=1.0&auth_signature=00&a=%20b+c", "body", "/p")
	f.Add("a=1&a=2&%zz", "", "/p/%zz")
	f.Add("info[0]=a&info[]=b&Info=c&i[1]=d", "", "/p/%20")
	f.Add(`;=;&a={"x"|@y},&`+"\xff=\xff", "", "/p/%2525")
	f.Fuzz(func(t *testing.T, raw, body, path string) {
		q, err := ParseQuery(nil, raw)
		if len(q) > maxParameters {
			t.Fatalf("%d parameters", len(q))
		}
		if err != nil {
			return
		}
		a := &Credentials{ID: "1", Key: "key", Secret: "secret", Signers: new(Signers)}
		whole := &RequestPath{"/ws", path, "/ws/" + path}
		if _, err := url.PathUnescape(path); err != nil {
			return // the request is refused before
		}
		e := a.CheckRequest("GET", whole, q, []byte(body), time.Unix(0, 0), time.Minute)
		if e == nil || strings.ContainsAny(e.Text, "\r\n") {
			t.Fatalf("got %v for a query that was not signed", e)
		}
		// Each form that may be signed decodes to the requested path.
		meant, _ := url.PathUnescape(path)
		for _, form := range whole.more() {
			if got, err := url.PathUnescape(form); err == nil && form != whole.Sent &&
				got != meant && got != "/ws"+meant {
				t.Fatalf("%q may be signed for %q", form, path)
			}
		}
		// No two parameters are one.
		seen := map[string]string{}
		for _, p := range q {
			if old, ok := seen[p.names[nameLower]]; ok && old != p.names[nameAsIs] {
				t.Fatalf("%q and %q", old, p.names[nameAsIs])
			}
			seen[p.names[nameLower]] = p.names[nameAsIs]
			if old := q.Get(p.names[nameLower]); !strings.Contains(old, p.value) {
				t.Fatalf("got %q, which lacks %q", old, p.value)
			}
		}
		// A signature makes the request right, in each of the forms, and found is the signed form.
		for form := nameLower; form <= nameSent; form++ {
			signed := Params(slices.DeleteFunc(slices.Clone(q), func(p param) bool {
				name := p.names[nameLower]
				return name == "body_md5" || strings.HasPrefix(name, "auth_")
			}))
			sum := md5.Sum([]byte(body))
			for _, p := range [][2]string{{"auth_key", "key"}, {"auth_version", "1.0"},
				{"auth_timestamp", "0"}, {"body_md5", hex.EncodeToString(sum[:])}} {
				if signed, err = signed.add(p[0], p[1]); err != nil {
					return // there are too many already
				}
			}
			var s signer
			s.setText("GET", "", path, signed, form)
			if signed, err = signed.add("auth_signature",
				Sign(a.Secret, string(s.text))); err != nil {
				return
			}
			if e := a.CheckRequest("GET", whole, signed, []byte(body), time.Unix(0, 0),
				time.Minute); e != nil {
				t.Fatalf("got %v for a signed query", e.Text)
			}
		}
	})
}
