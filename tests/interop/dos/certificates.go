package dos

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// identity is the files of a server that speaks TLS; who trusts the authority trusts it.
type identity struct{ authority, certificate, key string }

// newIdentity makes a CA, which signs one certificate and is forgotten.
func newIdentity(t testing.TB, folder string) identity {
	t.Helper()
	made := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	made(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	made(err)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true,
		BasicConstraintsValid: true, Subject: pkix.Name{CommonName: "authority"},
		KeyUsage:  x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	authorityBytes, err := x509.CreateCertificate(rand.Reader, authority, authority,
		&authorityKey.PublicKey, authorityKey)
	made(err)
	serverBytes, err := x509.CreateCertificate(rand.Reader, server, authority, &key.PublicKey,
		authorityKey)
	made(err)
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	made(err)
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(folder, name)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
		made(os.WriteFile(path, text, 0o600))
		return path
	}
	return identity{write("ca.crt", "CERTIFICATE", authorityBytes),
		write("server.crt", "CERTIFICATE", serverBytes), write("server.key", "PRIVATE KEY", keyBytes)}
}

// trusting is a client's configuration that trusts the CA in a file.
func trusting(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// shakeHands makes a connection an encrypted one.
func shakeHands(conn net.Conn, config *tls.Config) (net.Conn, error) {
	config = config.Clone()
	config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2"}
	shaken := tls.Client(conn, config)
	_ = conn.SetDeadline(time.Now().Add(patience))
	return shaken, shaken.Handshake()
}
