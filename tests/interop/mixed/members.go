// Package mixed runs clusters whose members are partly etcd's and partly the server under test:
// whatever one kind says to the other must be understood, and both must come to the same rows.
package mixed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// Both kinds compact their logs early, compare their rows often, and say so in the same words.
var flags = []string{"--snapshot-count=200", "--snapshot-catchup-entries=100",
	"--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s",
	"--corrupt-check-time=1s"}

// beyond is more entries than both flags leave in a log.
const beyond = 600

// requestTimeout is how long one try of a request may take.
const requestTimeout = 5 * time.Second

// Member is a process of one kind or the other, and a client that asks it alone.
type Member struct {
	*harness.Server
	*clientv3.Client
}

// Cluster is its members, those of etcd first.
type Cluster struct {
	Members []*Member
	t       testing.TB
}

// Start runs one member of etcd and two under test.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	ours := harness.UnderTest(t)
	var servers []*harness.Server
	for i, program := range []harness.Program{harness.Reference(t), ours, ours} {
		member := c.prepare(fmt.Sprintf("m%d", i), program)
		servers = append(servers, member.Server)
		c.Members = append(c.Members, member)
	}
	harness.Found(t, servers...)
	return c
}

func (c *Cluster) prepare(name string, program harness.Program) *Member {
	server := harness.New(c.t, program, harness.Options{Name: name, Args: flags,
		// Names are known once all are prepared.
		InitialCluster: "later"})
	return &Member{Server: server, Client: server.Client(c.t)}
}

// Kind tells the programs apart in messages.
func (m *Member) Kind() string {
	if m.Program.Etcd {
		return "etcd"
	}
	return "ours"
}

// ID is the member's own id.
func (m *Member) ID(t testing.TB) uint64 {
	t.Helper()
	status, err := m.Status(harness.Context(t), m.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	return status.Header.MemberId
}

// Leader is the member that says of itself that it leads, once all agree.
func (c *Cluster) Leader() *Member {
	c.t.Helper()
	var leader *Member
	harness.Eventually(c.t, harness.Patience, func() string {
		ids := map[uint64]bool{}
		leader = nil
		for _, member := range c.Members {
			if !member.Running() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			status, err := member.Status(ctx, member.Endpoint())
			cancel()
			if err != nil {
				return err.Error()
			}
			ids[status.Leader] = true
			if status.Leader == status.Header.MemberId {
				leader = member
			}
		}
		if leader == nil || len(ids) != 1 {
			return fmt.Sprintf("leaders: %v", ids)
		}
		return ""
	})
	return leader
}

// Lead makes a member the leader, if it is not.
func (c *Cluster) Lead(member *Member) {
	c.t.Helper()
	id := member.ID(c.t)
	harness.Eventually(c.t, harness.Patience, func() string {
		leader := c.Leader()
		if leader == member {
			return ""
		}
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		_, err := leader.MoveLeader(ctx, id)
		return fmt.Sprintf("%s leads still: %v", leader.Options.Name, err)
	})
}

// Others are the members besides one.
func (c *Cluster) Others(but *Member) []*Member {
	var others []*Member
	for _, member := range c.Members {
		if member != but {
			others = append(others, member)
		}
	}
	return others
}

// Snapshots is how many states of others a member has taken over.
func (m *Member) Snapshots(t testing.TB) float64 {
	t.Helper()
	if m.Program.Etcd {
		return harness.Metric(t, m.Endpoint(), "etcd_network_snapshot_receive_success")
	}
	text, err := os.ReadFile(m.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	return float64(strings.Count(string(text), `"msg":"installed a snapshot"`))
}

// ask retries what a cluster that is not well may refuse.
func ask(t testing.TB, what string, try func(ctx context.Context) error) {
	t.Helper()
	harness.Eventually(t, 2*harness.Patience, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		if err := try(ctx); err != nil {
			// Refusals come at once, and are put again in a moment.
			time.Sleep(100 * time.Millisecond)
			return what + ": " + err.Error()
		}
		return ""
	})
}
