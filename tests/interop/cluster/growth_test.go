package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

const (
	fillValue = 64 << 10
	// anonymousMax is how much memory a snapshot may cost who sends and who takes it.
	anonymousMax = 64 << 20
	putsWhile    = 500
)

// A follower is away while the store grows beyond what the log keeps, and is caught up by a
// snapshot while clients write. The store has 64 MB, with LONG 1 GB.
func TestLaggingFollower(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := Start(t, 3, "--snapshot-count=1000", "--snapshot-catchup-entries=500",
		"--quota-backend-bytes=8589934592")
	l := NewLoad(t, c, Plan{Free: 2, Rate: 300, Probes: putsWhile})
	leader := c.Leader()
	follower := c.Others(leader)[0]
	var others []string
	for _, member := range c.Others(follower) {
		others = append(others, member.Endpoint())
	}
	l.ProbeThrough(c.Client(others...))
	l.underLoad()
	follower.Kill()
	l.fill(others, long(64, 1024)<<20/fillValue)
	l.underLoad()

	before := anonymous(t, leader)
	l.canary.longest.Store(0)
	since := l.Recorder.Now()
	begin := time.Now()
	peaks := peaksOf(leader, follower)
	follower.Back()
	took := time.Since(begin)
	settled, stall := anonymous(t, follower), time.Duration(l.canary.longest.Load())
	latencies := l.latencies(since)
	leaderPeak, followerPeak := peaks()
	snapshots := c.snapshotsOf(t, follower)
	l.Finish()
	p50, p99 := at(latencies, 0.5), at(latencies, 0.99)
	rate := float64(len(latencies)) / took.Seconds()
	t.Logf("caught up in %v by %v snapshots, amid %.0f puts/s with p50 %v, p99 %v; anonymous "+
		"memory: leader +%d MiB, follower +%d MiB", milli(took), snapshots, rate, milli(p50),
		milli(p99), (leaderPeak-before)>>20, (followerPeak-settled)>>20)
	if snapshots < 1 {
		t.Error("no snapshot was sent: the log was long enough")
	}
	if c.program.Etcd {
		return
	}
	if stall > stallMax {
		t.Logf("the machine stood still for %v: latencies are not judged", stall)
	} else if c.program.Timed() && (p99 > 100*time.Millisecond || rate < 0.8*putsWhile) {
		t.Error("clients noticed the snapshot")
	}
	if leaderPeak-before > anonymousMax || followerPeak-settled > anonymousMax {
		t.Error("a snapshot takes too much memory")
	}
}

// fill puts so many large values, a few at a time.
func (l *Load) fill(endpoints []string, count int) {
	l.t.Helper()
	const fillers = 4
	client, filler := l.cluster.Client(endpoints...), strings.Repeat("x", fillValue)
	var group sync.WaitGroup
	for number := range fillers {
		w := &worker{load: l, id: uint64(probeClient + 2000 + number), client: client,
			known: map[string]int64{}}
		group.Go(func() {
			for i := number; i < count; i += fillers {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				err := w.put(ctx, fmt.Sprintf("fill/%06d", i), w.value()+" "+filler)
				cancel()
				if err != nil {
					l.t.Errorf("while the store grows: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
}

// anonymous is the memory of a process that is no page of a file.
func anonymous(t testing.TB, member *Member) int64 {
	t.Helper()
	bytes, err := anonymousOf(member)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

var anonymousLine = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

func anonymousOf(member *Member) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", member.Pid()))
	if err != nil {
		return 0, err
	}
	found := anonymousLine.FindSubmatch(text)
	if found == nil {
		return 0, errors.New("the process has ended")
	}
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10, err
}

// peaksOf looks at the memory of two members until it is asked for the most it saw.
func peaksOf(a, b *Member) (peaks func() (int64, int64)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan [2]int64)
	go func() {
		var most [2]int64
		for ctx.Err() == nil {
			for i, member := range []*Member{a, b} {
				if member.Running() {
					bytes, _ := anonymousOf(member)
					most[i] = max(most[i], bytes)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		done <- most
	}()
	return func() (int64, int64) {
		stop()
		most := <-done
		return most[0], most[1]
	}
}

// snapshotsOf is how many snapshots a member has installed.
func (c *Cluster) snapshotsOf(t testing.TB, member *Member) float64 {
	t.Helper()
	if c.program.Etcd {
		return harness.Metric(t, member.Endpoint(), "etcd_network_snapshot_receive_success")
	}
	text, err := os.ReadFile(member.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	return float64(strings.Count(string(text), `"msg":"installed a snapshot"`))
}

// gapMax is how long writes may wait for a change of members.
const gapMax = 2 * time.Second

// Members are replaced, added as learners and promoted, and removed, the leader too, under load.
func TestMembersChange(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := Start(t, 3)
	l := NewLoad(t, c, Plan{Free: 8, Rate: 600, Probes: 100})
	for range long(1, 5) {
		lost := c.Others(c.Leader())[0]
		step(t, l, "replace a follower that is lost", func() {
			lost.Kill()
			l.remove(lost)
			l.add(false)
		})
		step(t, l, "add a learner and promote it", func() { l.add(true) })
		step(t, l, "add a fifth", func() { l.add(false) })
		step(t, l, "remove a follower", func() { l.remove(c.Others(c.Leader())[0]) })
		step(t, l, "remove the leader", func() { l.remove(c.Leader()) })
	}
	l.Finish()
	if len(c.Members) != 3 {
		t.Errorf("%d members", len(c.Members))
	}
}

// step is one change, amid which writes go on.
func step(t *testing.T, l *Load, what string, change func()) {
	t.Helper()
	l.underLoad()
	since := l.Recorder.Now()
	// The change itself is what is measured, and then whether writes go on.
	l.Recovery(&figures{}, change)
	gap := l.gap(since)
	t.Logf("%s: took %v, longest gap between writes %v", what,
		milli(time.Duration(l.Recorder.Now()-since)), milli(gap))
	if gap > gapMax && l.cluster.program.Timed() {
		t.Errorf("%s: no write for %v", what, gap)
	}
}

// ask retries a change until it is done: a cluster that is not well refuses it.
func (l *Load) ask(what string, change func(ctx context.Context) error) {
	l.t.Helper()
	harness.Eventually(l.t, time.Minute, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		if err := change(ctx); err != nil {
			return what + ": " + err.Error()
		}
		return ""
	})
}

// find looks a member up by its name; nil if there is none.
func find(ctx context.Context, client *clientv3.Client, name string) (*pb.Member, error) {
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range list.Members {
		if one.Name == name {
			return one, nil
		}
	}
	return nil, nil
}

// remove takes a member out; if it runs it must end by itself.
func (l *Load) remove(member *Member) {
	l.t.Helper()
	c := l.cluster
	c.Members = c.Others(member)
	l.Follow()
	client := c.Client(c.Endpoints()...)
	l.ask("remove", func(ctx context.Context) error {
		one, err := find(ctx, client, member.Options.Name)
		if err != nil || one == nil {
			return err
		}
		_, err = client.MemberRemove(ctx, one.ID)
		return err
	})
	harness.Eventually(l.t, harness.Patience, func() string {
		if member.Running() {
			return "a removed member runs"
		}
		return ""
	})
}

// add makes a new member, as a learner at first if wanted, and waits until it serves.
func (l *Load) add(learner bool) *Member {
	l.t.Helper()
	c := l.cluster
	member := c.prepare()
	member.Options.Joins = true
	names := []string{member.Options.Name + "=" + member.Options.PeerURL}
	for _, one := range c.Members {
		names = append(names, one.Options.Name+"="+one.Options.PeerURL)
	}
	member.Options.InitialCluster = strings.Join(names, ",")
	client := c.Client(c.Endpoints()...)
	urls := []string{member.Options.PeerURL}
	known := false
	l.ask("add", func(ctx context.Context) error {
		if list, err := client.MemberList(ctx); err == nil {
			for _, one := range list.Members {
				known = known || one.PeerURLs[0] == urls[0]
			}
		}
		if known {
			return nil
		}
		if learner {
			_, err := client.MemberAddAsLearner(ctx, urls)
			return err
		}
		_, err := client.MemberAdd(ctx, urls)
		return err
	})
	if err := member.Spawn(); err != nil {
		l.t.Fatal(err)
	}
	if learner {
		l.ask("promote", func(ctx context.Context) error {
			one, err := find(ctx, client, member.Options.Name)
			if err != nil || one != nil && !one.IsLearner {
				return err
			}
			// Before it has told its name it is not there, and refused as such.
			_, err = client.MemberPromote(ctx, one.GetID())
			return err
		})
	}
	if err := member.WaitReady(); err != nil {
		l.t.Fatal(err)
	}
	c.Members = append(c.Members, member)
	l.Follow()
	return member
}
