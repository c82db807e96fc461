package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kvorum/interop/rig"
)

// clockFaults are about what a member takes for the time of day; its timers go on as they should.
var clockFaults = []*fault{
	{kind: "clock of a member jumps", needs: []string{clocks}, fits: faked, run: func(r *round) {
		member := r.any()
		for _, clock := range []string{r.jump(), r.jump(), "+0"} {
			r.during(func() {
				r.setClock(member, clock)
				r.while(2 * time.Second)
			})
		}
	}},
	{kind: "clock of the leader jumps", needs: []string{clocks}, fits: faked, run: func(r *round) {
		leader := r.cluster.Leader()
		r.during(func() {
			r.setClock(leader, r.jump())
			r.while(2 * time.Second)
		})
		r.setClock(leader, "+0")
	}},
	{kind: "clocks run fast and slow", needs: []string{clocks}, fits: faked, run: func(r *round) {
		r.during(func() {
			for _, member := range r.cluster.Members {
				r.setClock(member, fmt.Sprintf("+0 x%.3f", 0.9+0.2*r.random.Float64()))
			}
			time.Sleep(2 * time.Second)
			// A member that starts must stand it, too.
			member := r.follower()
			r.stop(member)
			member.Back()
		})
		for _, member := range r.cluster.Members {
			r.setClock(member, "+0")
		}
	}},
}

const clockFile = "clock"

func faked(r *round) bool { return r.cluster.Setup.Through != nil }

// fakeClock runs a member under libfaketime, which asks a file of the member's folder.
func fakeClock(library string) func(folder string) []string {
	return func(folder string) []string {
		file := filepath.Join(folder, clockFile)
		_ = os.WriteFile(file, []byte("+0\n"), 0o644)
		return []string{"env", "LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + file,
			"FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_CACHE_DURATION=1"}
	}
}

func (r *round) setClock(member *rig.Member, clock string) {
	file := filepath.Join(member.Options.Dir, clockFile)
	if err := os.WriteFile(file+".new", []byte(clock+"\n"), 0o644); err != nil {
		r.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		r.Fatal(err)
	}
}

// jump is up to an hour ahead or back.
func (r *round) jump() string { return fmt.Sprintf("%+d", r.random.Intn(7200)-3600) }
