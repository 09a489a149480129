// Package pemfile reads certificates and private keys in PEM in the forms that OpenSSL, and so PHP,
// accepts: with byte order marks, with old labels, with encrypted keys. Its errors begin with the
// name of the file and end with the remedy. They quote only the labels of blocks from a file. The
// package makes no certificate and no key.
package pemfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/plainfile"
)

// maxFile bounds, in bytes, a file of certificates and keys. Larger: who owns the file makes each
// look at it cost more memory. Smaller: the authorities of a system, 250 KiB in one file, are
// refused.
const maxFile = 1 << 20

// byteOrderMark may stand in front of a text, because some editors write it.
var byteOrderMark = []byte("\ufeff")

// Read reads a file that must be PEM, as ReadAny does.
func Read(file string) ([]byte, error) {
	b, err := ReadAny(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file; check the name, "+
			"and that the folder above it may be entered", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf(
			"%s: this user (uid %d) may not read the file; change its owner or group, "+
				"or hand it over with systemd's LoadCredential", file, os.Getuid())
	case err != nil:
		// a *fs.PathError would say the name again
		return nil, fmt.Errorf("%s: %w; name a PEM file", file, errors.Unwrap(err))
	case len(bytes.TrimSpace(b)) == 0:
		return nil, fmt.Errorf("%s: the file is empty; write the certificate or key into it in PEM",
			file)
	}
	if block, _ := pem.Decode(b); block != nil {
		return b, nil
	}
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%s: the PEM is cut off or damaged; copy the whole file again, "+
			"from -----BEGIN to -----END", file)
	}
	if b[0] == 0x30 { // an ASN.1 sequence
		return nil, fmt.Errorf("%s: the file is binary (DER or PKCS #12), not PEM; "+
			"convert it with: openssl x509 -inform der -in %s -out cert.pem, "+
			"or openssl pkcs12 -in %s -nodes -out cert.pem", file, file, file)
	}
	return nil, fmt.Errorf(
		"%s: the file is not PEM; it must hold -----BEGIN CERTIFICATE----- or a private key", file)
}

// ReadAny reads a file and returns its PEM in the form that crypto/x509 knows. A file that is not
// PEM is returned as it is. Byte order marks are removed, also between files that were joined. The
// labels X509 CERTIFICATE and TRUSTED CERTIFICATE, which OpenSSL also takes (PEM_bytes_read_bio),
// become CERTIFICATE. OpenSSL appends data to the DER of a trusted certificate; ReadAny cuts it off
// (d2i_X509_AUX). The error is that of plainfile.Read.
func ReadAny(name string) ([]byte, error) {
	b, err := plainfile.Read(name, maxFile)
	b = bytes.ReplaceAll(b, byteOrderMark, nil)
	if !bytes.Contains(b, []byte("-----BEGIN TRUSTED CERTIFICATE-----")) &&
		!bytes.Contains(b, []byte("-----BEGIN X509 CERTIFICATE-----")) {
		return b, err
	}
	var known []byte
	for block := range blocks(b) {
		if block.Type == "TRUSTED CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
			var certificate asn1.RawValue
			if _, bad := asn1.Unmarshal(block.Bytes, &certificate); bad == nil {
				block.Bytes = certificate.FullBytes
			}
			block.Type = "CERTIFICATE"
		}
		known = append(known, pem.EncodeToMemory(block)...)
	}
	return known, err
}

// blocks yields the PEM blocks of b.
func blocks(b []byte) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		for block, rest := pem.Decode(b); block != nil && yield(block); {
			block, rest = pem.Decode(rest)
		}
	}
}

// Has says whether b has a PEM block of a kind; kind is the end of the type, as in RSA PRIVATE KEY.
func Has(b []byte, kind string) bool {
	for block := range blocks(b) {
		if strings.HasSuffix(block.Type, kind) {
			return true
		}
	}
	return false
}

// Types lists the types of the PEM blocks in b, each once and quoted, for an error.
func Types(b []byte) string {
	var types []string
	for block := range blocks(b) {
		if quoted := strconv.Quote(block.Type); !slices.Contains(types, quoted) {
			types = append(types, quoted)
		}
	}
	return strings.Join(types, ", ")
}

// --- Encrypted keys: RFC 1423, and PKCS #8 with PBES2 ---

// The errors of OpenKey.
var (
	ErrNoPassphrase = errors.New("the private key is encrypted")
	ErrPassphrase   = errors.New("the passphrase does not open the private key")
	ErrUnsupported  = errors.New("the private key is encrypted in a way that is not supported; " +
		"decrypt it once with: openssl pkey -in KEY -out NEWKEY")
)

// OpenKey returns the private key in keyPEM as PEM that is not encrypted. If keyPEM has encrypted
// keys, the result is the first of them; otherwise it is keyPEM.
func OpenKey(keyPEM []byte, passphrase string) ([]byte, error) {
	for block := range blocks(keyPEM) {
		pkcs8 := block.Type == "ENCRYPTED PRIVATE KEY"
		//lint:ignore SA1019 an operator may have such a key; the program only reads it
		if !pkcs8 && !x509.IsEncryptedPEMBlock(block) {
			continue
		}
		if passphrase == "" {
			return nil, ErrNoPassphrase
		}
		if pkcs8 {
			der, err := openPKCS8(block.Bytes, passphrase)
			if err != nil {
				return nil, err
			}
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
		}
		//lint:ignore SA1019 see above
		der, err := x509.DecryptPEMBlock(block, []byte(passphrase))
		if err != nil || !isSequence(der) {
			return nil, ErrPassphrase
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
	return keyPEM, nil
}

// isSequence says that der is one ASN.1 SEQUENCE and nothing else, as every private key is. One
// wrong passphrase in 256 gives bytes whose padding is right: RFC 1423 has no other check.
func isSequence(der []byte) bool {
	var key asn1.RawValue
	rest, err := asn1.Unmarshal(der, &key)
	return err == nil && len(rest) == 0 && key.Class == asn1.ClassUniversal &&
		key.Tag == asn1.TagSequence
}

// maxIterations bounds the iterations of a key file; OpenSSL uses 2,048. Larger: a damaged file
// could delay the start for minutes. Smaller: keys of careful operators are refused.
const maxIterations = 10_000_000

// encryptedKey is an EncryptedPrivateKeyInfo (RFC 5958 §3).
type encryptedKey struct {
	Algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	}
	Data []byte
}

// kdfParameters are those of PBKDF2 (RFC 8018 §A.2).
type kdfParameters struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// openPKCS8 opens a key that is encrypted with PBES2, PBKDF2 and AES in CBC mode
// (RFC 8018 §6.2), which is what OpenSSL writes.
func openPKCS8(der []byte, passphrase string) ([]byte, error) {
	const pbes2, pbkdf2ID = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12"
	var info encryptedKey
	var kdf kdfParameters
	var iv []byte
	rest, err := asn1.Unmarshal(der, &info)
	algorithms := &info.Algorithm.Parameters
	if err != nil || len(rest) > 0 || info.Algorithm.ID.String() != pbes2 ||
		algorithms.KDF.Algorithm.String() != pbkdf2ID {
		return nil, ErrUnsupported
	}
	if _, err := asn1.Unmarshal(algorithms.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, ErrUnsupported
	}
	if _, err := asn1.Unmarshal(algorithms.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, ErrUnsupported
	}
	prf := map[string]func() hash.Hash{"": sha1.New, "1.2.840.113549.2.7": sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New}[kdf.PRF.Algorithm.String()]
	keyBytes := map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24,
		"2.16.840.1.101.3.4.1.42": 32}[algorithms.Cipher.Algorithm.String()]
	if prf == nil || keyBytes == 0 || kdf.Iterations < 1 || kdf.Iterations > maxIterations ||
		len(iv) != aes.BlockSize || len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, ErrUnsupported
	}
	key, err := pbkdf2.Key(prf, passphrase, kdf.Salt, kdf.Iterations, keyBytes)
	if err != nil {
		return nil, ErrUnsupported
	}
	return decrypt(key, iv, info.Data)
}

// decrypt decrypts AES in CBC mode. If the result is not a PKCS #8 key, the passphrase is wrong.
func decrypt(key, iv, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrUnsupported
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, ErrPassphrase
	}
	plain = plain[:len(plain)-pad]
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, ErrPassphrase
	}
	return plain, nil
}
