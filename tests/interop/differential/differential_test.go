package differential

import (
	"slices"
	"testing"

	"kvorum/interop/harness"
)

func startPair(t *testing.T) (*side, *side) {
	subject := harness.Start(t, harness.UnderTest(t), harness.Options{Name: "subject"})
	reference := harness.Start(t, harness.Reference(t), harness.Options{Name: "reference"})
	return newSide(t, "under test", subject), newSide(t, "etcd", reference)
}

// OPS steps (5000 unless set) of SEED, with a kill of both servers after every RESTART_EVERY.
func TestSameAnswersAsEtcd(t *testing.T) {
	subject, reference := startPair(t)
	d := newDriver(t, harness.Seed(t), subject, reference)
	d.play(harness.Int(t, "OPS", 5000), harness.Int(t, "RESTART_EVERY", 2000))
	names := make([]string, 0, len(d.counts))
	for name := range d.counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Logf("%6d %s", d.counts[name], name)
	}
	t.Logf("%d steps, revision %d, compacted at %d", d.played, d.generator.revision,
		d.generator.compacted)
}
