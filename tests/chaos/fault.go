package chaos

import (
	"math/rand"
	"regexp"
	"slices"
)

// fault is a kind of thing that happens to a cluster, and passes.
type fault struct {
	kind string
	// needs are what this machine must have for it.
	needs []string
	// fits says which clusters it can happen to; nil is all of them.
	fits func(*round) bool
	// run makes it and mends it. What it costs is measured by round.struck or round.during.
	run func(*round)
}

// faults are all kinds.
func faults() []*fault {
	return slices.Concat(processFaults, networkFaults, slownessFaults, diskFaults, damageFaults,
		clockFaults, certificateFaults, memberFaults)
}

// bag holds kinds of faults; each is drawn as often as the others.
type bag struct {
	all, left []*fault
	random    *rand.Rand
}

// newBag has the kinds whose names match, but for those that need something that is lacking: these
// are told.
func newBag(random *rand.Rand, match *regexp.Regexp, lacks map[string]string) (*bag,
	map[string]string) {
	b, skipped := &bag{random: random}, map[string]string{}
next:
	for _, one := range faults() {
		if !match.MatchString(one.kind) {
			continue
		}
		for _, need := range one.needs {
			if why := lacks[need]; why != "" {
				skipped[one.kind] = why
				continue next
			}
		}
		b.all = append(b.all, one)
	}
	return b, skipped
}

// draw takes out the next kind that fits; nil if there is none.
func (b *bag) draw(fits func(*fault) bool) *fault {
	for range 2 {
		for i, one := range b.left {
			if fits(one) {
				b.left = slices.Delete(b.left, i, i+1)
				return one
			}
		}
		// What is left waits for other clusters; the others get their next turn.
		more := slices.Clone(b.all)
		more = slices.DeleteFunc(more, func(f *fault) bool { return slices.Contains(b.left, f) })
		b.random.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
		b.left = append(b.left, more...)
	}
	return nil
}
