package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

const (
	diskMB = 512
	// diskOptions keep the journal from committing on its own: what was not synced is lost.
	diskOptions = "commit=1000"
	// fullTime is how long disks stay full.
	fullTime = 2 * time.Second
	// quietTime without an alarm is enough to say that none comes back.
	quietTime = 2 * time.Second
	// slowTime is how long syncs stay slow.
	slowTime = 3 * time.Second
	// endMax is how long a member may take to end once its sync has failed.
	endMax = 10 * time.Second
	// idleMax is when a member that did not sync will not.
	idleMax = 2 * time.Second
)

// diskFaults happen to members' own disks.
var diskFaults = []*fault{
	{kind: "power cut of a member", needs: []string{disks}, run: func(r *round) {
		r.powerCut(r.any())
	}},
	{kind: "power cut of the leader", needs: []string{disks}, run: func(r *round) {
		r.powerCut(r.cluster.Leader())
	}},
	{kind: "power cut of all members at once", needs: []string{disks}, run: func(r *round) {
		r.powerOff(r.cluster.Members)
		if r.random.Intn(3) == 0 {
			// Again while they recover.
			r.spawn(r.cluster.Members)
			r.while(400 * time.Millisecond)
			r.powerOff(r.cluster.Members)
		}
		r.struck(func() { r.spawn(r.cluster.Members) })
	}},
	{kind: "disk full of a member", needs: []string{disks}, run: func(r *round) { r.full(1) }},
	{kind: "disk full of two members", needs: []string{disks}, run: func(r *round) { r.full(2) }},
	{kind: "disk full of all members", needs: []string{disks}, run: func(r *round) {
		r.full(len(r.cluster.Members))
	}},
	{kind: "slow sync of the leader", needs: []string{tracing}, run: func(r *round) {
		r.slowSync(r.cluster.Leader())
	}},
	{kind: "slow sync of a follower", needs: []string{tracing}, run: func(r *round) {
		r.slowSync(r.follower())
	}},
	{kind: "failing sync of a member", needs: []string{tracing}, run: func(r *round) {
		member := r.any()
		r.struck(func() { r.failSync([]*rig.Member{member}) })
		member.Back()
	}},
	{kind: "failing sync of all members", needs: []string{tracing}, run: func(r *round) {
		r.failSync(r.cluster.Members)
		r.struck(func() { r.spawn(r.cluster.Members) })
	}},
}

// powerOff takes what members have not synced, then the members.
func (r *round) powerOff(members []*rig.Member) {
	for _, member := range members {
		member.Disk.Cut()
	}
	if r.random.Intn(2) == 0 {
		// They may run into the errors of their disks before they go as well.
		r.while(50 * time.Millisecond)
	}
	for _, member := range members {
		member.Kill()
	}
	for _, member := range members {
		member.Disk.Remount()
	}
}

func (r *round) powerCut(member *rig.Member) {
	r.struck(func() { r.powerOff([]*rig.Member{member}) })
	r.while(time.Second)
	member.Back()
}

// full fills disks and frees them again. Meanwhile members answer reads, and may refuse writes;
// what is measured is how soon these are taken afterwards. A member whose last room is taken in the
// middle of a commit may end; what it acknowledged must be there.
func (r *round) full(count int) {
	members := slices.Clone(r.cluster.Members)
	r.random.Shuffle(len(members), func(i, j int) {
		members[i], members[j] = members[j], members[i]
	})
	members = members[:count]
	for _, member := range members {
		member.Disk.Fill(r.random.Int63n(8 << 20))
	}
	filler := strings.Repeat("x", 100_000)
	refused := ""
	for end := time.Now().Add(fullTime); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := r.writer.Put(ctx, "fill/full", r.writer.Value()+" "+filler)
		cancel()
		if err != nil {
			refused = err.Error()
			time.Sleep(10 * time.Millisecond)
		}
	}
	words := "all went on"
	for _, member := range r.cluster.Members {
		client := r.cluster.Client(member.Endpoint())
		_, err := client.Get(harness.Context(r), "k/", clientv3.WithPrefix())
		switch {
		case !member.Running():
			// The last room was taken while it was writing there.
			words = "a member ended"
		case err != nil && !r.cluster.Program.Etcd:
			r.Errorf("%s does not read while disks are full: %v", member.Options.Name, err)
		}
	}
	r.outcome(words)
	r.Logf("    refused with: %s", refused)
	r.struck(func() {
		for _, member := range members {
			member.Disk.Free()
			if !member.Running() {
				r.spawn([]*rig.Member{member})
			}
		}
		r.disarm()
	})
	r.settle()
}

// disarm ends alarms until a write is taken.
func (r *round) disarm() {
	client := r.cluster.Client(r.cluster.Endpoints()...)
	harness.Eventually(r, time.Minute, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if _, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
			return err.Error()
		}
		if err := r.writer.Put(ctx, "fill/full", r.writer.Value()); err != nil {
			return err.Error()
		}
		return ""
	})
}

// settle waits until alarms stay away: a member looks for room from time to time, and raises its
// alarm again until it has found some.
func (r *round) settle() {
	client, quiet := r.cluster.Client(r.cluster.Endpoints()...), time.Now()
	harness.Eventually(r, time.Minute, func() string {
		alarms, err := client.AlarmList(harness.Context(r))
		if err != nil || len(alarms.Alarms) > 0 {
			_, _ = client.AlarmDisarm(harness.Context(r), &clientv3.AlarmMember{})
			quiet = time.Now()
		}
		if time.Since(quiet) < quietTime {
			return "alarms come back"
		}
		return ""
	})
}

// slowSync lets each sync of a member take 20 to 200 ms longer.
func (r *round) slowSync(member *rig.Member) {
	delay := time.Duration(20+r.random.Intn(180)) * time.Millisecond
	slow := r.inject(member, fmt.Sprintf("delay_enter=%d", delay.Microseconds()))
	r.during(func() { time.Sleep(slowTime) })
	slow.end()
}

// failSync lets syncs of members fail from now on. Whoever has one that failed must end by itself,
// and of what was not synced nothing is left.
func (r *round) failSync(members []*rig.Member) {
	var traces []*trace
	for _, member := range members {
		traces = append(traces, r.inject(member, "error=EIO"))
	}
	began := time.Now()
	for i, member := range members {
		harness.Eventually(r, endMax, func() string {
			idle := len(members) > 1 && time.Since(began) > idleMax && !traces[i].failed()
			// If the others have ended, there may be nothing to sync any more.
			if member.Running() && !idle {
				return member.Options.Name + " goes on though its sync must have failed"
			}
			return ""
		})
	}
	for i, member := range members {
		member.Kill()
		traces[i].end()
		if member.Disk != nil {
			member.Disk.Cut()
			member.Disk.Remount()
		}
	}
}

// trace is a strace that tampers with a member's syncs.
type trace struct {
	process *exec.Cmd
	output  string
}

// inject starts one.
func (r *round) inject(member *rig.Member, what string) *trace {
	pid := member.Pid()
	one := &trace{output: filepath.Join(member.Options.Dir, "strace")}
	one.process = exec.Command("strace", "-f", "-qq", "-o", one.output, "-e",
		"trace=fsync,fdatasync,sync_file_range", "-e",
		"inject=fsync,fdatasync,sync_file_range:"+what, "-p", fmt.Sprint(pid))
	if err := one.process.Start(); err != nil {
		r.Fatal(err)
	}
	harness.Eventually(r, harness.Patience, func() string {
		if member.Running() && !traced(pid) {
			return "strace is not there yet"
		}
		return ""
	})
	return one
}

// failed says whether a sync has.
func (one *trace) failed() bool {
	text, err := os.ReadFile(one.output)
	return err == nil && strings.Contains(string(text), "(INJECTED)")
}

func (one *trace) end() {
	_ = one.process.Process.Signal(syscall.SIGTERM)
	_ = one.process.Wait()
}

// traced says whether all threads of a process have a tracer.
func traced(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err == nil && strings.Contains(string(text), "TracerPid:\t0\n") {
			return false
		}
	}
	return len(threads) > 0
}
