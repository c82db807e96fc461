package kubeadm

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"kvorum/interop/harness"
)

// Machines are the guide's three, and the one where its client works.
type Machines struct {
	Units []*Unit
	// PKI holds the authority and the client's certificate.
	PKI string

	t      testing.TB
	folder string
	wrote  int
}

// localhost is where calls between loopback addresses come from, whatever address they go to. The
// guide has room for it: each of its certificates names a public address besides the private one.
const localhost = "127.0.0.1"

// NewMachines makes certificates and services; nothing runs yet.
func NewMachines(t testing.TB) *Machines {
	t.Helper()
	m := &Machines{t: t, folder: harness.TempDir(t)}
	m.PKI = filepath.Join(m.folder, "pki")
	cluster := addresses(t)
	m.Certify(m.PKI, cluster)
	for _, name := range slices.Sorted(maps.Keys(cluster)) {
		m.Units = append(m.Units, NewUnit(t, name, cluster, m.folder))
	}
	return m
}

// addresses are three of loopback, by the names of the guide, where the guide's ports are free.
func addresses(t testing.TB) map[string]string {
	t.Helper()
	network := fmt.Sprintf("127.%d.%d", 1+rand.Intn(254), rand.Intn(255))
	cluster := map[string]string{}
	for i := range 3 {
		address := fmt.Sprintf("%s.%d", network, i+1)
		for _, port := range []string{"2379", "2380"} {
			listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
			if err != nil {
				harness.Lacking(t, "the guide's ports are taken: "+err.Error())
			}
			listener.Close()
		}
		cluster[fmt.Sprintf("etcd%d", i)] = address
	}
	return cluster
}

// Certify makes certificates for machines, from the authority of a folder or a new one.
func (m *Machines) Certify(folder string, cluster map[string]string) {
	m.t.Helper()
	var members []string
	for name, address := range cluster {
		members = append(members, fmt.Sprintf("%s=%s,%s", name, address, localhost))
	}
	harness.Certify(m.t, folder, harness.Years, members...)
}

// Give puts other server and peer certificates into a machine's folder.
func (m *Machines) Give(unit *Unit, from string) {
	m.t.Helper()
	harness.Exchange(m.t, unit.PKI, from)
}

// Endpoints of all machines.
func (m *Machines) Endpoints() []string {
	var endpoints []string
	for _, unit := range m.Units {
		endpoints = append(endpoints, unit.Endpoint())
	}
	return endpoints
}

// TLS is the client's side, with the certificate of that name in the folder, or with none.
func (m *Machines) TLS(folder, name string) *tls.Config {
	m.t.Helper()
	return harness.ClientTLS(m.t, m.PKI, folder, name)
}

// Client is clientv3 with the client's certificate.
func (m *Machines) Client(endpoints ...string) *clientv3.Client {
	m.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(),
		TLS: m.TLS(m.PKI, "client"), DialTimeout: harness.Patience})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Ctl runs etcdctl as the guide's client would; it must succeed.
func (m *Machines) Ctl(args ...string) string {
	m.t.Helper()
	where := []string{"--cacert", filepath.Join(m.PKI, "ca.pem"),
		"--cert", filepath.Join(m.PKI, "client.pem"),
		"--key", filepath.Join(m.PKI, "client-key.pem")}
	for _, endpoint := range m.Endpoints() {
		where = append(where, "--endpoints", endpoint)
	}
	return harness.Succeed(m.t, harness.Etcdctl(m.t), append(where, args...)...)
}

// Write puts the next keys, each until it is acknowledged, and says how long the first took.
func (m *Machines) Write(client *clientv3.Client, count int) (first time.Duration) {
	m.t.Helper()
	start := time.Now()
	for range count {
		key := keyOf(m.wrote)
		harness.Eventually(m.t, harness.Patience, func() string {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := client.Put(ctx, key, key); err != nil {
				return fmt.Sprintf("put %s: %v", key, err)
			}
			return ""
		})
		m.wrote++
		if first == 0 {
			first = time.Since(start)
		}
	}
	return first
}

// Holds waits until a machine by itself has all that was acknowledged.
func (m *Machines) Holds(unit *Unit) {
	m.t.Helper()
	client := m.Client(unit.Endpoint())
	harness.Eventually(m.t, harness.Patience, func() string {
		got, err := client.Get(harness.Context(m.t), "/", clientv3.WithPrefix(),
			clientv3.WithSerializable())
		if err != nil {
			return err.Error()
		}
		if len(got.Kvs) != m.wrote {
			return fmt.Sprintf("%s has %d keys of %d", unit.Name, len(got.Kvs), m.wrote)
		}
		for i, kv := range got.Kvs {
			if string(kv.Key) != keyOf(i) || string(kv.Value) != keyOf(i) {
				return fmt.Sprintf("%s has %s=%s", unit.Name, kv.Key, kv.Value)
			}
		}
		return ""
	})
}

func keyOf(number int) string { return fmt.Sprintf("/registry/guide/%06d", number) }

// Leader is the machine that leads, in the eyes of all that answer.
func (m *Machines) Leader() *Unit {
	m.t.Helper()
	var leader *Unit
	harness.Eventually(m.t, harness.Patience, func() string {
		leader = nil
		for _, unit := range m.Units {
			status, err := m.Client(unit.Endpoint()).Status(harness.Context(m.t), unit.Endpoint())
			if err != nil {
				return err.Error()
			}
			if status.Leader == status.Header.MemberId {
				if leader != nil {
					return "two lead"
				}
				leader = unit
			}
		}
		if leader == nil {
			return "nobody leads"
		}
		return ""
	})
	return leader
}
