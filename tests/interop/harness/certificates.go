package harness

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Years are the days for which certificates are good, unless a test wants others.
const Years = 1825

// Certify makes certificates with deploy/certs.sh, for members given as it takes them, from the
// authority of a folder or a new one.
func Certify(t testing.TB, folder string, days int, members ...string) {
	t.Helper()
	certify(t, days, append([]string{certsScript(t), folder}, members...))
}

// CertifyExpired does so ten days ago, for one day. That needs faketime.
func CertifyExpired(t testing.TB, folder string, members ...string) {
	t.Helper()
	command := []string{"faketime", "-f", "-10d", certsScript(t), folder}
	certify(t, 1, append(command, members...))
}

func certsScript(t testing.TB) string {
	t.Helper()
	return filepath.Join(Repository(t), "deploy", "certs.sh")
}

func certify(t testing.TB, days int, args []string) {
	t.Helper()
	for tries := 0; ; tries++ {
		command := exec.Command(args[0], args[1:]...)
		command.Env = append(os.Environ(), fmt.Sprintf("DAYS=%d", days))
		text, err := command.CombinedOutput()
		if err == nil {
			return
		}
		// faketime names its semaphore by its number, which a killed one had, too.
		if tries == 3 || !strings.Contains(string(text), "sem_open: File exists") {
			t.Fatalf("%q: %v: %s", args, err, text)
		}
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

// CopyAuthority gives another folder the authority of one.
func CopyAuthority(t testing.TB, from, to string) {
	t.Helper()
	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
