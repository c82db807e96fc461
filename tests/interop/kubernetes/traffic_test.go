package kubernetes

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// K8S_SECONDS of apiserver traffic (20 unless set), then every answer is checked.
func TestApiserverTraffic(t *testing.T) {
	seconds := harness.Int(t, "K8S_SECONDS", 20)
	seed := harness.Seed(t)
	w := newWorld(t, harness.Start(t, harness.UnderTest(t), harness.Options{}))
	first, second := w.apiserver(), w.apiserver()
	start, err := first.KV.Get(harness.Context(t), "/registry/health")
	if err != nil {
		t.Fatal(err)
	}
	from := start.Header.Revision + 1
	// Nobody writes nodes: their cache learns the revision from bookmarks alone.
	cached := append([]string{"/registry/nodes/"}, resources...)
	positions := make([]position, len(cached))
	for i, prefix := range cached {
		w.listen(func() { w.watchCache(first, prefix, from, &positions[i]) })
		w.spawn(func() { w.reflector(second, prefix, seed+int64(i)) })
		w.spawn(func() { w.estimator(second, prefix) })
	}
	w.listen(func() { w.progress(first) })
	w.spawn(func() { w.consistentReads(first, cached[0], &positions[0]) })
	w.spawn(func() { w.consistentReads(second, cached[1], &positions[1]) })
	for i := range int64(4) {
		w.spawn(func() { w.writer(first, seed*10+i) })
	}
	w.spawn(func() { w.compactor(first) })
	w.spawn(func() { w.compactor(second) })
	var made map[string]object
	var told []arrival
	w.spawn(func() { made = w.recorder(first) })
	w.listen(func() { told = w.hear(second, from) })

	w.pause(time.Duration(seconds) * time.Second)
	w.stop()
	w.group.Wait()
	w.hearOut(t, first.Client, positions)
	if err := checkExpiry(made, told); err != nil {
		t.Errorf("event objects: %v", err)
	}
	w.verify()
	w.report()
	if w.figures["puts"] < seconds*50 || w.figures["bookmarks checked"] < seconds ||
		w.figures["compactions"] == 0 {
		t.Error("too little happened to mean anything")
	}
}

// hearOut waits until the last event object expired and every cache is as new as the store.
func (w *world) hearOut(t *testing.T, client *clientv3.Client, positions []position) {
	t.Helper()
	var last int64
	harness.Eventually(t, eventTTL+30*time.Second, func() string {
		r, err := client.Get(harness.Context(t), eventPrefix, clientv3.WithPrefix(),
			clientv3.WithCountOnly())
		if err != nil || r.Count != 0 {
			return "event objects outlive their leases"
		}
		last = r.Header.Revision
		return ""
	})
	harness.Eventually(t, harness.Patience, func() string {
		for i := range positions {
			if at := positions[i].revision.Load(); at < last && w.caches.Err() == nil {
				return fmt.Sprintf("a watch cache is at %d, the store at %d", at, last)
			}
		}
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if gone, made := w.figures["event objects gone"], w.figures["event objects"]; gone < made {
			return fmt.Sprintf("of %d event objects %d are known to be gone", made, gone)
		}
		return ""
	})
	w.hangUp()
	w.ears.Wait()
}
