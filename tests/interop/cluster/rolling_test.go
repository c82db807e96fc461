package cluster

import (
	"testing"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

const (
	leases      = 20
	leaseTTL    = 5 * time.Second
	stopTimeMax = 10 * time.Second
)

// All members are restarted, one after the other, while clients that know all of them work, watch
// and keep leases. etcd's client retries what it knows was not executed; nobody may notice more.
func TestRollingRestart(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.Plan{Free: 20, Rate: 1000, Probes: 50, Patient: true})
	kept := l.KeepLeases(leases, leaseTTL)
	var stops rig.Figures
	begin := l.Recorder.Now()
	for range long(2, 20) {
		for _, member := range c.Members {
			l.UnderLoad()
			stopping := time.Now()
			if err := member.Stop(); err != nil {
				t.Fatal(err)
			}
			stops.Took = append(stops.Took, time.Since(stopping))
			member.Back()
		}
	}
	gap := l.Gap(begin)
	lost := kept()
	l.Finish()
	failed := 0
	for _, count := range l.Failures() {
		failed += count
	}
	p50, _, longest := stops.Quantiles()
	t.Logf("%d restarts under load: %d requests of %d failed, %d leases of %d lost, longest gap "+
		"between writes %v; SIGTERM to exit p50 %v, longest %v", len(stops.Took), failed,
		l.Answers(), lost, leases, rig.Milli(gap), rig.Milli(p50), rig.Milli(longest))
	if c.Program.Etcd {
		return
	}
	if failed != 0 || lost != 0 || c.Program.Timed() && longest > stopTimeMax {
		t.Error("clients noticed the restarts")
	}
}
