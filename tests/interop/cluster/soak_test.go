package cluster

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// soakPlan fills two cores as far as faults can still be told from slowness.
var soakPlan = Plan{Pinned: 6, Free: 14, Rate: 4000, Probes: 100}

// fault is something that happens to a cluster, and passes.
type fault struct {
	what string
	run  func(c *Cluster, random *rand.Rand)
}

// faults by lot; nothing that would be lost by them is promised.
var faults = []fault{
	{"leader killed", func(c *Cluster, _ *rand.Rand) {
		leader := c.Leader()
		leader.Kill()
		leader.Back()
	}},
	{"member killed", func(c *Cluster, random *rand.Rand) {
		member := c.any(random)
		member.Kill()
		time.Sleep(upTo(random, time.Second))
		member.Back()
	}},
	{"all killed", func(c *Cluster, _ *rand.Rand) {
		for _, member := range c.Members {
			member.Kill()
		}
		for _, member := range c.Members {
			if err := member.Spawn(); err != nil {
				c.t.Fatal(err)
			}
		}
	}},
	{"member restarted", func(c *Cluster, random *rand.Rand) {
		member := c.any(random)
		if err := member.Stop(); err != nil {
			c.t.Fatal(err)
		}
		member.Back()
	}},
	{"member paused", func(c *Cluster, random *rand.Rand) {
		member := c.any(random)
		member.Pause()
		time.Sleep(upTo(random, 3*time.Second))
		member.Resume()
	}},
	{"leader paused", func(c *Cluster, random *rand.Rand) {
		leader := c.Leader()
		leader.Pause()
		time.Sleep(upTo(random, 3*time.Second))
		leader.Resume()
	}},
	{"leader isolated", func(c *Cluster, random *rand.Rand) {
		c.Isolate(c.Leader())
		time.Sleep(upTo(random, 3*time.Second))
		c.Network.Heal()
	}},
	{"two members apart", func(c *Cluster, random *rand.Rand) {
		one := c.any(random)
		c.Network.Cut(one.Host, c.Others(one)[0].Host)
		time.Sleep(upTo(random, 3*time.Second))
		c.Network.Heal()
	}},
	{"member deaf", func(c *Cluster, random *rand.Rand) {
		deaf := c.any(random)
		for _, other := range c.Others(deaf) {
			c.Network.Deafen(deaf.Host, other.Host)
		}
		time.Sleep(upTo(random, 3*time.Second))
		c.Network.Heal()
	}},
	{"member defragmented", func(c *Cluster, random *rand.Rand) {
		member := c.any(random)
		client := c.Client(member.Endpoint())
		// Whether it is done is not what is tested here.
		_, _ = client.Defragment(harness.Context(c.t), member.Endpoint())
	}},
}

// Many operations amid faults of all kinds: 20 000 are answered, with LONG a million.
func TestManyOperations(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := Start(t, 3)
	l := NewLoad(t, c, soakPlan)
	random := rand.New(rand.NewSource(l.seed))
	times := map[string]int{}
	begin := time.Now()
	for l.answers.Load() < int64(long(20_000, 1_000_000)) {
		l.underLoad()
		fault := faults[random.Intn(len(faults))]
		fault.run(c, random)
		times[fault.what]++
		c.Ready()
	}
	took := time.Since(begin)
	l.Finish()
	var counts []string
	for what, count := range times {
		counts = append(counts, fmt.Sprintf("%s %d", what, count))
	}
	slices.Sort(counts)
	t.Logf("%d answers in %v, amid: %s", l.answers.Load(), took.Round(time.Second),
		strings.Join(counts, ", "))
}

func (c *Cluster) any(random *rand.Rand) *Member {
	return c.Members[random.Intn(len(c.Members))]
}

func upTo(random *rand.Rand, longest time.Duration) time.Duration {
	return time.Duration(random.Int63n(int64(longest)))
}
