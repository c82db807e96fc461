package durability

import (
	"context"
	"math/rand"
	"slices"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// ROUNDS kills (10 unless set) at random moments under load.
func TestKillLosesNothing(t *testing.T) {
	seed := harness.Seed(t)
	random := rand.New(rand.NewSource(seed))
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	l := newLoad(t, server, seed)
	var back []time.Duration
	for round := range harness.Int(t, "ROUNDS", 10) {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(50+random.Intn(800)) * time.Millisecond)
			server.Kill()
			stop()
		}()
		l.run(ctx)
		<-killed
		begin := time.Now()
		if err := server.Run(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		back = append(back, time.Since(begin))
		if err := l.verify(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	l.report()
	slices.Sort(back)
	t.Logf("back after median %v, longest %v", back[len(back)/2], back[len(back)-1])
}

// report writes what was acknowledged, of which nothing was lost.
func (l *load) report() {
	l.t.Helper()
	l.t.Logf("acknowledged and found again: %v; at revision %d, compacted at %d", l.kinds,
		l.ledger.newest, l.ledger.compacted)
	if l.kinds["puts"] == 0 || l.kinds["txns"] == 0 {
		l.t.Error("too little was acknowledged to mean anything")
	}
}
