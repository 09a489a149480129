package pemfile

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sealed are keys made by openssl genpkey -algorithm ed25519, encrypted by
// openssl pkcs8 -topk8 -v2 CIPHER -v2prf PRF -passout pass:geheim.
var sealed = map[string]string{
	"aes-128-cbc hmacWithSHA1": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGNMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAiKjn5Wu6IwgQICCAAw
HQYJYIZIAWUDBAECBBA6ZTF4iM9eEtanyp9bfY1FBED1J29pTehrFevUu3Hru9X8
N+xr5SEAtaLnZw69BY+DaOQxBjjRiHDAE8oFTLG4Cp93v8y5UMo5okUzPk42fRP9
-----END ENCRYPTED PRIVATE KEY-----
`,
	"aes-192-cbc hmacWithSHA512": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgvSZRTcYiVywICCAAw
DAYIKoZIhvcNAgsFADAdBglghkgBZQMEARYEENHMlXdzK4WKa6l8NjU00FYEQDMg
JPN/VAWS4E8WgcSZBUdP6tWJyIoqTu9nHNbJvw0ISbENWnJkb9ZYT7JDcEGBl0QJ
Mme0AoqFxFC0JeTw2vg=
-----END ENCRYPTED PRIVATE KEY-----
`,
	"aes-256-cbc hmacWithSHA384": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAj+pN0y1t/8awICCAAw
DAYIKoZIhvcNAgoFADAdBglghkgBZQMEASoEEPtc1Ow/gfMtzNyuhg8tzRMEQIlA
MdMj9BvH4iCCz733VGftm3CaUvDU02Tx+h6yzMmdThKOIGCUmF/jhzGe2n3hkEu6
iQPjhTVe6amL9sK0AEs=
-----END ENCRYPTED PRIVATE KEY-----
`,
	"aes-256-cbc hmacWithSHA256": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgiqFzEg4lZTwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEE4Kpef0JZkk7V0uhsnPd+EEQN4J
41mJtoa6t/F0SuPJeT4RxhjRI7vru0EFLKoHXx1N6NuIqaO1pAwxQw8wr6eHM7sj
H8VwkxxBWsI9/z5HUxw=
-----END ENCRYPTED PRIVATE KEY-----
`,
	"des3 hmacWithSHA256": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGKME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAj06w3Ky496zAICCAAw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQIYqyCQp774rsEOJE+ZYN/SpehCSVg
k3Q8td2sQ9Al8nX5VgZKbxnzs6/mr2CCsh/bhlGhVQrLEi+Onlpen5hRem3f
-----END ENCRYPTED PRIVATE KEY-----
`,
}

func TestOpenKey(t *testing.T) {
	for name, key := range sealed {
		opened, err := OpenKey([]byte(key), "geheim")
		if strings.HasPrefix(name, "des3") {
			if err != ErrUnsupported {
				t.Errorf("%s: got %v, want %v", name, err, ErrUnsupported)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		block, _ := pem.Decode(opened)
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil ||
			block.Type != "PRIVATE KEY" {
			t.Errorf("%s: got a %s, %v", name, block.Type, err)
		}
		if again, err := OpenKey(opened, ""); err != nil || !bytes.Equal(again, opened) {
			t.Errorf("%s: an open key is changed, or %v", name, err)
		}
		for pass, want := range map[string]error{"": ErrNoPassphrase, "falsch": ErrPassphrase} {
			if _, err := OpenKey([]byte(key), pass); err != want {
				t.Errorf("%s with %q: got %v, want %v", name, pass, err, want)
			}
		}
	}
}

// No cut and no flipped bit opens a key, or crashes.
func TestDamagedKey(t *testing.T) {
	whole, _ := pem.Decode([]byte(sealed["aes-256-cbc hmacWithSHA256"]))
	for i := range whole.Bytes {
		damaged := bytes.Clone(whole.Bytes)
		damaged[i] ^= 0x55
		for _, der := range [][]byte{whole.Bytes[:i], damaged} {
			if hugeIterations(whole.Bytes, der) {
				continue
			}
			if _, err := openPKCS8(der, "x"); err == nil {
				t.Fatalf("opened, damaged at %d", i)
			}
		}
	}
}

// hugeIterations says whether the damage stands in the number of iterations: then opening
// may take seconds, within maxIterations.
func hugeIterations(whole, der []byte) bool {
	count, _ := hex.DecodeString("02020800")
	at := bytes.Index(whole, count)
	return len(der) == len(whole) && !bytes.Equal(whole[at:at+4], der[at:at+4])
}

func TestOpenOldKey(t *testing.T) {
	const key = "\x30\x02\x05\x00" // as short as a SEQUENCE with something in it can be
	//lint:ignore SA1019 operators have such keys
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", []byte(key),
		[]byte("geheim"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	sealed := pem.EncodeToMemory(block)
	opened, err := OpenKey(sealed, "geheim")
	if b, _ := pem.Decode(opened); err != nil || b.Type != "EC PRIVATE KEY" ||
		string(b.Bytes) != key {
		t.Errorf("got %s, %v", opened, err)
	}
	for i := range 1000 { // the padding of about four is right
		if _, err := OpenKey(sealed, strconv.Itoa(i)); err != ErrPassphrase {
			t.Errorf("with %d: got %v, want %v", i, err, ErrPassphrase)
		}
	}
	if _, err := OpenKey(sealed, ""); err != ErrNoPassphrase {
		t.Errorf("without any: %v", err)
	}
}

// FuzzOpenKey: a key file is the operator's, but it may be damaged in any way.
func FuzzOpenKey(f *testing.F) {
	block, _ := pem.Decode([]byte(sealed["aes-256-cbc hmacWithSHA256"]))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) < 512 {
			openPKCS8(der, "x")
		}
	})
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func text(label, der string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: []byte(der)}))
}

func TestReadAny(t *testing.T) {
	const mark, der, aux = "\ufeff", "\x30\x03\x02\x01\x05",
		"\x30\x0a\x30\x08\x06\x06\x2b\x06\x01\x05\x05\x07"
	cert := text("CERTIFICATE", der)
	for in, want := range map[string]string{
		cert: cert, mark + cert + mark + cert: cert + cert, "not PEM": "not PEM",
		mark + text("X509 CERTIFICATE", der):                       cert,
		text("TRUSTED CERTIFICATE", der+aux) + text("X", "y"):      cert + text("X", "y"),
		text("TRUSTED CERTIFICATE", der):                           cert,
		text("TRUSTED CERTIFICATE", der[:3]):                       text("CERTIFICATE", der[:3]),
		"noise\n" + text("X509 CERTIFICATE", der) + "noise" + mark: cert,
	} {
		if got, err := ReadAny(file(t, in)); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	if _, err := ReadAny(t.TempDir() + "/nope"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestRead(t *testing.T) {
	cert := text("CERTIFICATE", "x")
	for in, want := range map[string]string{
		"":        "the file is empty",
		" \n":     "the file is empty",
		cert[:40]: "the PEM is cut off or damaged",
		"\x30\x82binary": "the file is binary (DER or PKCS #12), not PEM; " +
			"convert it with: openssl x509",
		"hello": "the file is not PEM; " +
			"it must hold -----BEGIN CERTIFICATE-----",
		"a comment, and then\n" + cert: "",
	} {
		name := file(t, in)
		got, err := Read(name)
		if want == "" && (err != nil || !Has(got, "CERTIFICATE")) ||
			want != "" && (err == nil || !strings.HasPrefix(err.Error(), name+": "+want)) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
	dir := t.TempDir()
	for name, want := range map[string]string{dir + "/nope": "there is no such file",
		dir: "is a directory; name a PEM file", "/dev/null": "not a regular file",
		file(t, strings.Repeat("x", maxFile+1)): "the file is larger than 1048576 bytes"} {
		if _, err := Read(name); err == nil || !strings.HasPrefix(err.Error(), name+": "+want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	locked := file(t, cert)
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(locked); err != nil { // root reads everything
		if _, err := Read(locked); err == nil ||
			!strings.Contains(err.Error(), "may not read the file; change its owner") {
			t.Errorf("got %v", err)
		}
	}
}

func TestBlocks(t *testing.T) {
	b := []byte(text("CERTIFICATE", "x") + text("RSA PRIVATE KEY", "y") + text("CERTIFICATE", "z"))
	if got := Types(b); got != `"CERTIFICATE", "RSA PRIVATE KEY"` {
		t.Errorf("got %s", got)
	}
	if !Has(b, "PRIVATE KEY") || Has(b, "PUBLIC KEY") || Has(nil, "") {
		t.Errorf("PRIVATE KEY %v, PUBLIC KEY %v, nothing %v", Has(b, "PRIVATE KEY"),
			Has(b, "PUBLIC KEY"), Has(nil, ""))
	}
}
