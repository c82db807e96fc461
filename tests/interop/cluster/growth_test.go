package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

const (
	// anonymousMax is how much memory a snapshot may cost who sends and who takes it.
	anonymousMax = 64 << 20
	putsWhile    = 500
)

// A follower is away while the store grows beyond what the log keeps, and is caught up by a
// snapshot while clients write. The store has 64 MB, with LONG 1 GB.
func TestLaggingFollower(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3, "--snapshot-count=1000", "--snapshot-catchup-entries=500",
		"--quota-backend-bytes=8589934592")
	l := rig.NewLoad(t, c, rig.Plan{Free: 2, Rate: 300, Probes: putsWhile})
	leader := c.Leader()
	follower := c.Others(leader)[0]
	var others []string
	for _, member := range c.Others(follower) {
		others = append(others, member.Endpoint())
	}
	l.ProbeThrough(c.Client(others...))
	l.UnderLoad()
	follower.Kill()
	l.Fill(others, long(64, 1024)<<20/rig.FillValue)
	l.UnderLoad()

	before := anonymous(t, leader)
	l.Steady()
	since := l.Recorder.Now()
	begin := time.Now()
	peaks := peaksOf(leader, follower)
	follower.Back()
	took := time.Since(begin)
	settled, stall := anonymous(t, follower), l.Stall()
	latencies := l.Latencies(since)
	leaderPeak, followerPeak := peaks()
	snapshots := c.SnapshotsOf(follower)
	l.Finish()
	p50, p99 := rig.At(latencies, 0.5), rig.At(latencies, 0.99)
	rate := float64(len(latencies)) / took.Seconds()
	t.Logf("caught up in %v by %v snapshots, amid %.0f puts/s with p50 %v, p99 %v; anonymous "+
		"memory: leader +%d MiB, follower +%d MiB", rig.Milli(took), snapshots, rate, rig.Milli(p50),
		rig.Milli(p99), (leaderPeak-before)>>20, (followerPeak-settled)>>20)
	if snapshots < 1 {
		t.Error("no snapshot was sent: the log was long enough")
	}
	if c.Program.Etcd {
		return
	}
	if stall > rig.StallMax {
		t.Logf("the machine stood still for %v: latencies are not judged", stall)
	} else if c.Program.Timed() && (p99 > 100*time.Millisecond || rate < 0.8*putsWhile) {
		t.Error("clients noticed the snapshot")
	}
	if leaderPeak-before > anonymousMax || followerPeak-settled > anonymousMax {
		t.Error("a snapshot takes too much memory")
	}
}

// anonymous is the memory of a process that is no page of a file.
func anonymous(t testing.TB, member *rig.Member) int64 {
	t.Helper()
	bytes, err := anonymousOf(member)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

var anonymousLine = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

func anonymousOf(member *rig.Member) (int64, error) {
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
func peaksOf(a, b *rig.Member) (peaks func() (int64, int64)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan [2]int64)
	go func() {
		var most [2]int64
		for ctx.Err() == nil {
			for i, member := range []*rig.Member{a, b} {
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

// gapMax is how long writes may wait for a change of members.
const gapMax = 2 * time.Second

// Members are replaced, added as learners and promoted, and removed, the leader too, under load.
func TestMembersChange(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.Plan{Free: 8, Rate: 600, Probes: 100})
	for range long(1, 5) {
		lost := c.Others(c.Leader())[0]
		step(t, l, "replace a follower that is lost", func() {
			lost.Kill()
			l.Remove(lost)
			l.Add(false)
		})
		step(t, l, "add a learner and promote it", func() { l.Add(true) })
		step(t, l, "add a fifth", func() { l.Add(false) })
		step(t, l, "remove a follower", func() { l.Remove(c.Others(c.Leader())[0]) })
		step(t, l, "remove the leader", func() { l.Remove(c.Leader()) })
	}
	l.Finish()
	if len(c.Members) != 3 {
		t.Errorf("%d members", len(c.Members))
	}
}

// step is one change, amid which writes go on.
func step(t *testing.T, l *rig.Load, what string, change func()) {
	t.Helper()
	l.UnderLoad()
	since := l.Recorder.Now()
	// The change itself is what is measured, and then whether writes go on.
	l.Recovery(&rig.Figures{}, change)
	gap := l.Gap(since)
	t.Logf("%s: took %v, longest gap between writes %v", what,
		rig.Milli(time.Duration(l.Recorder.Now()-since)), rig.Milli(gap))
	if gap > gapMax && harness.UnderTest(t).Timed() {
		t.Errorf("%s: no write for %v", what, gap)
	}
}
