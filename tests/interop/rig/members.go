package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"kvorum/interop/harness"
)

// Setup says what a cluster is made of.
type Setup struct {
	Members int
	// Args are further flags of the server.
	Args []string
	// DiskMB gives each member a disk of its own of that size, mounted with DiskOptions; without
	// it their data are in folders.
	DiskMB      int
	DiskOptions string
	// TLS lets clients and peers show certificates.
	TLS bool
	// Through is a command that runs the program, made for each member with a folder of its own.
	Through func(folder string) []string
}

// Cluster is members on a network.
type Cluster struct {
	Network *Network
	Members []*Member
	Program harness.Program
	Setup   Setup
	// PKI holds the authority, and a folder for each member; empty without TLS.
	PKI  string
	t    testing.TB
	made int
}

// Member is one process and where it lives.
type Member struct {
	*harness.Server
	Host *Host
	// Disk is its own, or nil.
	Disk *harness.Disk
	t    testing.TB
}

// memberStart is how long a member may take to serve on a busy machine.
const memberStart = time.Minute

// Start runs n members and waits until all of them serve.
func Start(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	return StartWith(t, Setup{Members: n, Args: args})
}

// StartWith runs members and waits until all of them serve.
func StartWith(t testing.TB, setup Setup) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Program: harness.UnderTest(t), Setup: setup}
	c.Network = NewNetwork(t)
	if setup.TLS {
		c.PKI = harness.TempDir(t)
	}
	var servers []*harness.Server
	for range setup.Members {
		member := c.prepare()
		servers = append(servers, member.Server)
		c.Members = append(c.Members, member)
	}
	harness.Found(t, servers...)
	return c
}

// prepare makes a member on a host of its own, not started and not in the cluster yet.
func (c *Cluster) prepare() *Member {
	c.t.Helper()
	c.made++
	host := c.Network.Add()
	options := harness.Options{
		Name: fmt.Sprintf("m%d", c.made), Args: slices.Clone(c.Setup.Args),
		Dir: harness.TempDir(c.t), StartTimeout: memberStart,
		PeerURL: c.url(host, 2380), ClientURL: c.url(host, 2379),
		// Not by ip netns exec: that gives it mounts of its own, and disks could not be taken off.
		Through: []string{"nsenter", "--net=" + netns + host.Namespace},
		// Names are known once all are prepared.
		InitialCluster: "later",
	}
	member := &Member{Host: host, t: c.t}
	if c.Setup.DiskMB > 0 {
		member.Disk = harness.NewDisk(c.t, c.Setup.DiskMB, c.Setup.DiskOptions)
		options.DataDir = filepath.Join(member.Disk.Path, "data")
	}
	if c.Setup.TLS {
		c.certify(host, &options)
	}
	if c.Setup.Through != nil {
		options.Through = append(options.Through, c.Setup.Through(options.Dir)...)
	}
	member.Server = harness.New(c.t, c.Program, options)
	return member
}

func (c *Cluster) url(host *Host, port int) string {
	scheme := "http"
	if c.Setup.TLS {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host.Address, port)
}

// certify gives a member certificates, and the flags to show and ask for them.
func (c *Cluster) certify(host *Host, options *harness.Options) {
	c.t.Helper()
	harness.Certify(c.t, c.PKI, harness.Years, options.Name+"="+host.Address)
	options.TLS = harness.ClientTLS(c.t, c.PKI, c.PKI, "client")
	own := filepath.Join(c.PKI, options.Name)
	options.Args = append(options.Args,
		"--cert-file="+own+"/server.pem", "--key-file="+own+"/server-key.pem",
		"--client-cert-auth", "--trusted-ca-file="+own+"/ca.pem",
		"--peer-cert-file="+own+"/peer.pem", "--peer-key-file="+own+"/peer-key.pem",
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+own+"/ca.pem")
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
func (c *Cluster) Endpoints() []string { return endpointsOf(c.Members) }

func endpointsOf(members []*Member) []string {
	var endpoints []string
	for _, member := range members {
		endpoints = append(endpoints, member.Endpoint())
	}
	return endpoints
}

// Client is etcd's client on some endpoints, with its standard settings, which retry what was
// surely not executed.
func (c *Cluster) Client(endpoints ...string) *clientv3.Client {
	c.t.Helper()
	config := clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(),
		DialTimeout: harness.Patience}
	if c.Setup.TLS {
		config.TLS = c.Members[0].Options.TLS
	}
	client, err := clientv3.New(config)
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
	for _, member := range c.Members {
		if !slices.Contains(but, member) {
			others = append(others, member)
		}
	}
	return others
}

// Isolate cuts a member off all others; clients still reach it.
func (c *Cluster) Isolate(member *Member) {
	c.t.Helper()
	c.Network.Isolate(member.Host)
}

// SnapshotsOf is how many snapshots a member has installed.
func (c *Cluster) SnapshotsOf(member *Member) float64 {
	c.t.Helper()
	if c.Program.Etcd {
		return harness.Metric(c.t, member.Endpoint(), "etcd_network_snapshot_receive_success")
	}
	return float64(strings.Count(member.Logged(), `"msg":"installed a snapshot"`))
}

func (m *Member) status() (*clientv3.StatusResponse, error) {
	if !m.Running() {
		return nil, fmt.Errorf("%s does not run", m.Options.Name)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Endpoint()},
		Logger: zap.NewNop(), TLS: m.Options.TLS})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Status(ctx, m.Endpoint())
}

// ID is the member's, as it says.
func (m *Member) ID() uint64 {
	m.t.Helper()
	var id uint64
	harness.Eventually(m.t, harness.Patience, func() string {
		status, err := m.status()
		if err != nil {
			return err.Error()
		}
		id = status.Header.MemberId
		return ""
	})
	return id
}

// Logged is what all runs of a member have printed.
func (m *Member) Logged() string {
	m.t.Helper()
	text, err := os.ReadFile(m.LogPath())
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// LoseLog ends a member and takes its log away.
func (m *Member) LoseLog() {
	m.t.Helper()
	m.Kill()
	if err := os.RemoveAll(filepath.Join(m.Options.DataDir, "member", "wal")); err != nil {
		m.t.Fatal(err)
	}
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
