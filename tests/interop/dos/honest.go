package dos

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// turn is how often the honest client asks, whatever became of what it asked before: a server
	// that stands still for a second has a hundred late answers, not one.
	turn = 10 * time.Millisecond
	// patience is when the honest client gives a request up; that is a failure.
	patience   = 5 * time.Second
	honestKeys = 100
)

// honest is a client that does nothing but put a key and read it, on a connection of its own.
type honest struct {
	client *clientv3.Client
}

// newHonest connects and puts all its keys, so that what is measured has no beginning.
func newHonest(t testing.TB, endpoint string, tls *tls.Config) *honest {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: tls,
		DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	h := &honest{client: client}
	for number := range honestKeys {
		if err := h.put(context.Background(), number); err != nil {
			t.Fatalf("the honest client before all: %v", err)
		}
	}
	return h
}

func (h *honest) close() { _ = h.client.Close() }

func (h *honest) put(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := h.client.Put(ctx, honestKey(number), fmt.Sprint(number)); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	return nil
}

func (h *honest) get(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := h.client.Get(ctx, honestKey(number))
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if len(response.Kvs) != 1 {
		return fmt.Errorf("get: %d keys", len(response.Kvs))
	}
	return nil
}

func honestKey(number int) string { return fmt.Sprintf("honest/%d", number%honestKeys) }

// service is what the honest client got.
type service struct {
	took     []time.Duration
	failures []string
	// stall is the longest that this process itself was not run.
	stall time.Duration
}

// serve asks until the context is done, and waits for the answers.
func (h *honest) serve(ctx context.Context) *service {
	s := &service{}
	watch := newCanary()
	var mutex sync.Mutex
	var asked sync.WaitGroup
	measure := func(due time.Time, ask func(context.Context, int) error, number int) {
		err := ask(context.Background(), number)
		mutex.Lock()
		defer mutex.Unlock()
		s.took = append(s.took, time.Since(due))
		if err != nil {
			s.failures = append(s.failures, err.Error())
		}
	}
	due := time.Now()
	for number := 0; ctx.Err() == nil; number++ {
		since := due
		asked.Go(func() { measure(since, h.put, number) })
		asked.Go(func() { measure(since, h.get, number) })
		due = due.Add(turn)
		time.Sleep(time.Until(due))
	}
	asked.Wait()
	s.stall = watch.end()
	slices.Sort(s.took)
	return s
}

// at is a quantile.
func (s *service) at(quantile float64) time.Duration {
	if len(s.took) == 0 {
		return 0
	}
	return s.took[min(int(quantile*float64(len(s.took))), len(s.took)-1)]
}

func (s *service) String() string {
	return fmt.Sprintf("p50 %s p99 %s max %s", short(s.at(0.5)), short(s.at(0.99)), short(s.at(1)))
}

// short is a duration for a table.
func short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// canary notices when the machine stands still: it only sleeps, and for how long it really did.
type canary struct {
	longest    atomic.Int64
	stop, done chan struct{}
}

func newCanary() *canary {
	c := &canary{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for {
			begin := time.Now()
			select {
			case <-c.stop:
				return
			case <-time.After(time.Millisecond):
			}
			c.longest.Store(max(c.longest.Load(), int64(time.Since(begin))))
		}
	}()
	return c
}

func (c *canary) end() time.Duration {
	close(c.stop)
	<-c.done
	return time.Duration(c.longest.Load())
}
