package chaos

import "time"

// slownessFaults make the wires between members worse, and clients go on.
var slownessFaults = []*fault{
	{kind: "packets lost", needs: []string{losing}, run: func(r *round) {
		r.during(func() {
			r.cluster.Network.Lose(1 + r.random.Intn(30))
			time.Sleep(cutMax)
		})
	}},
	{kind: "wires slow", needs: []string{slowing}, run: func(r *round) {
		r.during(func() {
			delay := time.Duration(5+r.random.Intn(75)) * time.Millisecond
			r.cluster.Network.Slow(delay, delay)
			time.Sleep(cutMax)
		})
	}},
	{kind: "wire of the leader narrow", needs: []string{narrowing}, run: func(r *round) {
		leader := r.cluster.Leader()
		r.during(func() {
			r.cluster.Network.Narrow(leader.Host, 1000+r.random.Intn(4000))
			time.Sleep(cutMax)
		})
	}},
}
