package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"kvorum/interop/harness"
)

// Cluster is members on a network.
type Cluster struct {
	Network *Network
	Members []*Member
	t       testing.TB
	program harness.Program
	args    []string
	made    int
}

// Member is one process and where it lives.
type Member struct {
	*harness.Server
	Host *Host
	t    testing.TB
}

// memberStart is how long a member may take to serve on a busy machine.
const memberStart = time.Minute

// Start runs n members and waits until all of them serve.
func Start(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, program: harness.UnderTest(t), args: args}
	c.Network = NewNetwork(t)
	var names []string
	for range n {
		member := c.prepare()
		names = append(names, member.Options.Name+"="+member.Options.PeerURL)
		c.Members = append(c.Members, member)
	}
	for _, member := range c.Members {
		member.Options.InitialCluster = strings.Join(names, ",")
		if err := member.Spawn(); err != nil {
			t.Fatal(err)
		}
	}
	c.Ready()
	return c
}

// prepare makes a member on a host of its own, not started and not in the cluster yet.
func (c *Cluster) prepare() *Member {
	c.t.Helper()
	c.made++
	host := c.Network.Add()
	server := harness.New(c.t, c.program, harness.Options{
		Name: fmt.Sprintf("m%d", c.made), Args: c.args, StartTimeout: memberStart,
		PeerURL: "http://" + host.Address + ":2380", ClientURL: "http://" + host.Address + ":2379",
		Through: []string{"ip", "netns", "exec", host.Namespace},
		// Names are known once all are prepared.
		InitialCluster: "later",
	})
	return &Member{Server: server, Host: host, t: c.t}
}

// Ready waits until all members serve linearizable reads.
func (c *Cluster) Ready() {
	c.t.Helper()
	for _, member := range c.Members {
		if err := member.WaitReady(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Endpoints are those of all members.
func (c *Cluster) Endpoints() []string {
	var endpoints []string
	for _, member := range c.Members {
		endpoints = append(endpoints, member.Endpoint())
	}
	return endpoints
}

// Client is etcd's client on some endpoints, with its standard settings, which retry what was
// surely not executed.
func (c *Cluster) Client(endpoints ...string) *clientv3.Client {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(),
		DialTimeout: harness.Patience})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Leader is the member that says it leads and is the only one at the newest term.
func (c *Cluster) Leader() *Member {
	c.t.Helper()
	var leader *Member
	harness.Eventually(c.t, memberStart, func() string {
		leader = nil
		var term uint64
		for _, member := range c.Members {
			status, err := member.status()
			if err != nil || status.Leader != status.Header.MemberId {
				continue
			}
			if status.RaftTerm > term {
				leader, term = member, status.RaftTerm
			}
		}
		if leader == nil {
			return "no leader"
		}
		return ""
	})
	return leader
}

// Others are the members besides some.
func (c *Cluster) Others(but ...*Member) []*Member {
	var others []*Member
next:
	for _, member := range c.Members {
		for _, one := range but {
			if one == member {
				continue next
			}
		}
		others = append(others, member)
	}
	return others
}

// Isolate cuts a member off all others; clients still reach it.
func (c *Cluster) Isolate(member *Member) {
	c.t.Helper()
	c.Network.Isolate(member.Host)
}

func (m *Member) status() (*clientv3.StatusResponse, error) {
	if !m.Running() {
		return nil, fmt.Errorf("%s does not run", m.Options.Name)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Endpoint()},
		Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Status(ctx, m.Endpoint())
}

// Pause stops the process from running until Resume.
func (m *Member) Pause() { m.signal(syscall.SIGSTOP) }

// Resume lets it run again.
func (m *Member) Resume() { m.signal(syscall.SIGCONT) }

func (m *Member) signal(signal syscall.Signal) {
	m.t.Helper()
	if err := syscall.Kill(m.Pid(), signal); err != nil {
		m.t.Fatal(err)
	}
}

// Back starts an ended member again and waits until it serves.
func (m *Member) Back() {
	m.t.Helper()
	if err := m.Run(); err != nil {
		m.t.Fatal(err)
	}
}

// long is a number for LONG=1, or the standard one.
func long(standard, long int) int {
	if os.Getenv("LONG") == "1" {
		return long
	}
	return standard
}
