package kubeadm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// TestGuide follows the guide to a cluster with TLS, and then does to it what the guide promises
// that it survives.
func TestGuide(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	m := NewMachines(t)
	stranger := filepath.Join(m.folder, "stranger")
	m.Certify(stranger, map[string]string{m.Units[2].Name: m.Units[2].Address})
	right := filepath.Join(m.folder, "right")
	if err := os.CopyFS(right, os.DirFS(m.Units[2].PKI)); err != nil {
		t.Fatal(err)
	}
	// The third machine has certificates of the right names by the wrong authority.
	m.Give(m.Units[2], filepath.Join(stranger, m.Units[2].Name))

	m.Units[0].Start()
	m.reachable(m.Units[0])
	if m.Units[0].Ready() {
		t.Fatal("one machine of three said that it is ready")
	}
	m.Units[1].Start()
	m.Units[2].Start()
	m.Units[0].WaitReady()
	m.Units[1].WaitReady()
	m.turnsStrangersAway(stranger)
	m.strangerStaysOut(m.Units[2])

	// Its certificates are put right; nobody restarts it.
	m.Give(m.Units[2], right)
	m.Units[2].WaitReady()
	m.tellsTheGuidesTools()
	m.survivesKills()

	for _, unit := range m.Units {
		m.Holds(unit)
	}
	m.agrees()
	for _, unit := range m.Units {
		if err := unit.Stop(); err != nil {
			t.Errorf("%s: systemd would call its end a failure: %v", unit.Name, err)
		}
	}
}

// peer asks the peer port of a machine for the members.
func (m *Machines) peer(unit *Unit, scheme string, config *tls.Config) (int, error) {
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: harness.Patience}
	response, err := client.Get(scheme + "://" + unit.Address + ":2380/members")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// reachable waits until the peer port answers, which is long before the member is ready.
func (m *Machines) reachable(unit *Unit) {
	m.t.Helper()
	config := m.TLS(unit.PKI, "peer")
	harness.Eventually(m.t, harness.Patience, func() string {
		if _, err := m.peer(unit, "https", config); err != nil {
			return err.Error()
		}
		return ""
	})
}

// turnsStrangersAway knocks at the peer port with every kind of wrong certificate.
func (m *Machines) turnsStrangersAway(stranger string) {
	m.t.Helper()
	elsewhere := filepath.Join(m.folder, "elsewhere")
	if err := os.CopyFS(elsewhere, os.DirFS(m.PKI)); err != nil {
		m.t.Fatal(err)
	}
	// By the right authority, for an address that is not the caller's.
	harness.Succeed(m.t, filepath.Join("..", "..", "..", "deploy", "certs.sh"), elsewhere,
		"etcd9=10.9.9.9")
	unit := m.Units[0]
	code, err := m.peer(unit, "https", m.TLS(unit.PKI, "peer"))
	if err != nil || code != http.StatusOK {
		m.t.Fatalf("a peer was turned away: %d, %v", code, err)
	}
	for what, config := range map[string]*tls.Config{
		"no certificate":                m.TLS("", ""),
		"another authority":             m.TLS(filepath.Join(stranger, m.Units[2].Name), "peer"),
		"the address of somebody else":  m.TLS(filepath.Join(elsewhere, "etcd9"), "peer"),
		"a certificate of its own make": selfMade(m.t, m.TLS("", ""), stranger),
	} {
		if code, err := m.peer(unit, "https", config); err == nil {
			m.t.Errorf("%s got %d of a peer port", what, code)
		}
	}
	if code, err := m.peer(unit, "http", nil); err == nil && code < 400 {
		m.t.Errorf("plain text got %d of a peer port", code)
	}
}

// selfMade is an authority that calls as itself.
func selfMade(t testing.TB, config *tls.Config, folder string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "ca.pem"),
		filepath.Join(folder, "ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config
}

// strangerStaysOut watches, for a while of writes, that a member with wrong certificates gets
// nowhere. That it goes on trying is shown by what comes after: right ones suffice to let it in.
func (m *Machines) strangerStaysOut(unit *Unit) {
	m.t.Helper()
	client := m.Client(m.Units[0].Endpoint(), m.Units[1].Endpoint())
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		m.Write(client, 10)
	}
	if unit.Ready() {
		m.t.Fatalf("%s got in with certificates of another authority", unit.Name)
	}
	members, err := client.MemberList(harness.Context(m.t))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, member := range members.Members {
		known := len(member.ClientURLs) > 0
		if strings.Contains(member.PeerURLs[0], unit.Address+":") == known {
			m.t.Fatalf("wrong members have said their names: %v", members.Members)
		}
	}
}

// tellsTheGuidesTools reads what etcdctl shows with the guide's certificates.
func (m *Machines) tellsTheGuidesTools() {
	m.t.Helper()
	list := m.Ctl("member", "list")
	for _, unit := range m.Units {
		line := fmt.Sprintf(", started, %s, https://%s:2380, https://%s:2379, false",
			unit.Name, unit.Address, unit.Address)
		if strings.Count(list, line) != 1 {
			m.t.Errorf("member list without %q:\n%s", line, list)
		}
	}
	health := m.Ctl("endpoint", "health")
	if strings.Count(health, "is healthy: successfully committed proposal") != 3 {
		m.t.Errorf("endpoint health:\n%s", health)
	}
	status := m.Ctl("endpoint", "status", "--cluster", "-w", "fields")
	for what, count := range map[string]int{`"Version" : "3.7.`: 3,
		`"IsLearner" : false`: 3, `"Leader" : `: 3} {
		if strings.Count(status, what) != count {
			m.t.Errorf("endpoint status has not %d times %s:\n%s", count, what, status)
		}
	}
	m.Leader()

	// Without the client's certificate there is nothing to be had.
	output := harness.Command(m.t, time.Minute, "", harness.Etcdctl(m.t), "member", "list",
		"--endpoints", m.Units[0].Endpoint(), "--cacert", filepath.Join(m.PKI, "ca.pem"),
		"--dial-timeout", "1s", "--command-timeout", "1s")
	if output.Code == 0 {
		m.t.Errorf("members are listed to anybody:\n%s", output.Stdout)
	}
}

// survivesKills ends each machine's process by kill -9, the leader's first: writes go on.
func (m *Machines) survivesKills() {
	m.t.Helper()
	client := m.Client(m.Endpoints()...)
	m.Write(client, 10)
	leader := m.Leader()
	order := []*Unit{leader}
	for _, unit := range m.Units {
		if unit != leader {
			order = append(order, unit)
		}
	}
	for i, unit := range order {
		unit.Kill()
		gap := m.Write(client, 20)
		role := map[bool]string{true: "the leader", false: "a follower"}[i == 0]
		m.t.Logf("kill -9 of %s, %s: the next write after %v", unit.Name, role,
			gap.Round(time.Millisecond))
		unit.Start()
		unit.WaitReady()
		m.Holds(unit)
	}
}

// agrees compares the hashes of all machines.
func (m *Machines) agrees() {
	m.t.Helper()
	var first uint32
	for i, unit := range m.Units {
		hash, err := m.Client(unit.Endpoint()).HashKV(harness.Context(m.t), unit.Endpoint(), 0)
		if err != nil {
			m.t.Fatal(err)
		}
		if i == 0 {
			first = hash.Hash
		}
		if hash.Hash != first {
			m.t.Errorf("%s has another hash", unit.Name)
		}
	}
}

// TestCertificatesAreAsCfsslMakesThem holds deploy/certs.sh to the shape of cfssl's.
func TestCertificatesAreAsCfsslMakesThem(t *testing.T) {
	folder := filepath.Join(harness.TempDir(t), "pki")
	harness.Succeed(t, filepath.Join("..", "..", "..", "deploy", "certs.sh"), folder,
		"etcd0=10.0.0.1:2379,etcd0.example.net")
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leaf := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	for _, c := range []struct {
		file, key, subject, alternatives string
		usage                            x509.KeyUsage
		purposes                         []x509.ExtKeyUsage
	}{
		{"ca", "RSA PRIVATE KEY", "CN=etcd", "[] []",
			x509.KeyUsageCertSign | x509.KeyUsageCRLSign, nil},
		{"client", "EC PRIVATE KEY", "CN=client", "[] []", leaf, both[1:]},
		{"etcd0/peer", "EC PRIVATE KEY", "CN=etcd0", "[10.0.0.1] [etcd0.example.net]", leaf, both},
		{"etcd0/server", "EC PRIVATE KEY", "CN=etcd0",
			"[10.0.0.1 127.0.0.1] [etcd0.example.net etcd0 localhost]", leaf, both},
	} {
		cert, key := load(t, filepath.Join(folder, c.file))
		if key != c.key {
			t.Errorf("%s: a key of kind %s", c.file, key)
		}
		got := fmt.Sprint(cert.IPAddresses, " ", cert.DNSNames)
		if cert.Subject.String() != c.subject || got != c.alternatives {
			t.Errorf("%s is for %s, %s", c.file, cert.Subject, got)
		}
		if cert.KeyUsage != c.usage || fmt.Sprint(cert.ExtKeyUsage) != fmt.Sprint(c.purposes) {
			t.Errorf("%s has usage %b, %v", c.file, cert.KeyUsage, cert.ExtKeyUsage)
		}
		if cert.SignatureAlgorithm != x509.SHA256WithRSA || cert.IsCA != (c.file == "ca") {
			t.Errorf("%s: %v, authority: %v", c.file, cert.SignatureAlgorithm, cert.IsCA)
		}
	}
	if info, err := os.Stat(filepath.Join(folder, "ca-key.pem")); err != nil {
		t.Error(err)
	} else if info.Mode().Perm() != 0o600 {
		t.Errorf("the authority's key has mode %v", info.Mode())
	}
}

// load reads a certificate and says of what kind its key's file is.
func load(t *testing.T, path string) (*x509.Certificate, string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(path+".pem", path+"-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path + "-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return pair.Leaf, block.Type
}
