package harness

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Years are the days for which certificates are good, unless a test wants others.
const Years = 1825

// Certify makes certificates with deploy/certs.sh, for members given as it takes them, from the
// authority of a folder or a new one.
func Certify(t testing.TB, folder string, days int, members ...string) {
	t.Helper()
	script := filepath.Join(Repository(t), "deploy", "certs.sh")
	command := exec.Command(script, append([]string{folder}, members...)...)
	command.Env = append(os.Environ(), fmt.Sprintf("DAYS=%d", days))
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, text)
	}
}

// ClientTLS is the client's side of an authority, with the certificate of that name in a folder, or
// with none.
func ClientTLS(t testing.TB, authority, folder, name string) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(authority, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(ca)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".pem"),
			filepath.Join(folder, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// Exchange puts other server and peer certificates into a member's folder, keys first.
func Exchange(t testing.TB, folder, from string) {
	t.Helper()
	for _, name := range []string{"server-key.pem", "server.pem", "peer-key.pem", "peer.pem"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}
