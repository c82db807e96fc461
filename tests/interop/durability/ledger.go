// Package durability ends a server the hard way, again and again, and holds what it has afterwards
// against what it had acknowledged.
//
//   - An acknowledged write is there, at its revision, with its value; so are an acknowledged
//     lease, revocation and compaction.
//   - A write whose answer never came happened once or not at all; a refused one did not happen.
//   - Nothing else is there, and no revision anybody was shown is taken back.
//
// The ledger is the judge and knows nothing of how the server was ended: a kill, a power cut and
// a full disk share it.
package durability

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// outcome is what the client knows of a request.
type outcome int

const (
	unknown outcome = iota
	acknowledged
	refused
)

// entry is one request that changes keys, all in one revision.
type entry struct {
	// changes are the new values; nil deletes.
	changes  map[string]*string
	outcome  outcome
	revision int64
	// found is the revision at which a check saw it.
	found int64
}

// lease is what is known of one.
type lease struct {
	ttl              int64
	granted, revoked outcome
	tried            bool
}

// ledger is everything asked of a server and what it answered.
type ledger struct {
	mutex   sync.Mutex
	entries []*entry
	// latest is, for each key, the newest of the entries that compaction has hidden.
	latest map[string]*entry
	leases map[int64]*lease
	// newest is the newest revision the server showed anybody.
	newest int64
	// compacted is the newest revision whose compaction was acknowledged, compacting the newest
	// asked for.
	compacted, compacting int64
	// deaf: what comes back from now on is not to be relied on.
	deaf bool
}

func newLedger() *ledger {
	return &ledger{latest: map[string]*entry{}, leases: map[int64]*lease{}}
}

// ask records a request before it is sent.
func (l *ledger) ask(changes map[string]*string) *entry {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	e := &entry{changes: changes}
	l.entries = append(l.entries, e)
	return e
}

// answer records what came back: a revision, or how it failed.
func (l *ledger) answer(e *entry, o outcome, revision int64) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.deaf {
		return
	}
	e.outcome, e.revision = o, revision
	l.newest = max(l.newest, revision)
}

// hear says whether answers count from now on. After its shutdown, ext4 lets some syncs succeed
// whose data is lost; when the power really goes nobody hears of those.
func (l *ledger) hear(answers bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.deaf = !answers
}

// shown records a revision that somebody was shown.
func (l *ledger) shown(revision int64) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.deaf {
		l.newest = max(l.newest, revision)
	}
}

// observed is what a server has after it came back.
type observed struct {
	revision, compacted int64
	// base is the state at the compact revision, events what happened since, state the state now.
	base, state []*mvccpb.KeyValue
	events      []*mvccpb.Event
	// leases and, of each, what it was granted and its keys.
	leases map[int64]observedLease
}

type observedLease struct {
	ttl  int64
	keys []string
}

// check judges. What it found becomes known: no outcome stays unknown.
func (l *ledger) check(o *observed) error {
	if o.revision < l.newest {
		return fmt.Errorf("at revision %d, but %d had been shown", o.revision, l.newest)
	}
	if o.compacted < l.compacted || o.compacted > max(l.compacting, l.compacted) {
		return fmt.Errorf("compacted at %d, acknowledged was %d, asked for %d", o.compacted,
			l.compacted, l.compacting)
	}
	l.compacted, l.compacting = o.compacted, o.compacted
	if err := l.checkHistory(o); err != nil {
		return err
	}
	if err := l.checkBase(o); err != nil {
		return err
	}
	if err := l.checkState(o); err != nil {
		return err
	}
	if err := l.checkLeases(o); err != nil {
		return err
	}
	l.settle(o)
	return nil
}

// checkHistory matches every revision since the compaction with one request.
func (l *ledger) checkHistory(o *observed) error {
	index := map[string]*entry{}
	byRevision := map[int64]*entry{}
	for _, e := range l.entries {
		e.found = 0
		for key, value := range e.changes {
			if value != nil {
				index[key+"="+*value] = e
			}
		}
		if e.outcome == acknowledged && len(e.changes) > 0 {
			byRevision[e.revision] = e
		}
	}
	next := max(o.compacted, 1) + 1
	for begin := 0; begin < len(o.events); {
		revision := o.events[begin].Kv.ModRevision
		end := begin
		for end < len(o.events) && o.events[end].Kv.ModRevision == revision {
			end++
		}
		group := o.events[begin:end]
		begin = end
		if o.compacted > 0 && revision == o.compacted {
			continue
		}
		if revision != next {
			return fmt.Errorf("revision %d follows %d", revision, next-1)
		}
		next++
		if err := l.match(group, revision, byRevision, index); err != nil {
			return err
		}
	}
	if next != o.revision+1 {
		return fmt.Errorf("history ends at %d, the store is at %d", next-1, o.revision)
	}
	for _, e := range l.entries {
		if e.outcome == acknowledged && e.revision > o.compacted && e.found == 0 &&
			len(e.changes) > 0 {
			return fmt.Errorf("lost: acknowledged at %d: %s", e.revision, e)
		}
	}
	return nil
}

// match finds the request that made a revision.
func (l *ledger) match(
	group []*mvccpb.Event, revision int64, byRevision map[int64]*entry, index map[string]*entry,
) error {
	changes := map[string]*string{}
	var e *entry
	for _, event := range group {
		key := string(event.Kv.Key)
		if event.Type == mvccpb.Event_DELETE {
			changes[key] = nil
			continue
		}
		value := string(event.Kv.Value)
		changes[key] = &value
		if made := index[key+"="+value]; made != nil {
			e = made
		}
	}
	if known := byRevision[revision]; known != nil {
		e = known
	}
	if e == nil {
		e = l.unansweredDelete(changes)
	}
	switch {
	case e == nil:
		return fmt.Errorf("revision %d was asked for by nobody: %s", revision, show(changes))
	case !sameChanges(e.changes, changes):
		return fmt.Errorf("revision %d is %s, asked for was %s", revision, show(changes), e)
	case e.outcome == refused:
		return fmt.Errorf("revision %d was refused: %s", revision, e)
	case e.outcome == acknowledged && e.revision != revision:
		return fmt.Errorf("acknowledged at %d, but at %d: %s", e.revision, revision, e)
	case e.found != 0 && e.found != revision:
		return fmt.Errorf("at %d and again at %d: %s", e.found, revision, e)
	}
	e.found = revision
	return nil
}

// unansweredDelete finds a request of unknown outcome that deletes just these keys.
func (l *ledger) unansweredDelete(changes map[string]*string) *entry {
	for _, e := range l.entries {
		if e.outcome == unknown && e.found == 0 && sameChanges(e.changes, changes) {
			return e
		}
	}
	return nil
}

// checkBase holds the state at the compact revision against the newest acknowledged write of each
// key up to there: what the compaction kept is what it had to keep.
func (l *ledger) checkBase(o *observed) error {
	newest := map[string]*entry{}
	for key, e := range l.latest {
		newest[key] = e
	}
	possible := map[string]bool{}
	for _, e := range l.entries {
		for key, value := range e.changes {
			if value != nil && e.outcome != refused {
				possible[key+"="+*value] = true
			}
			known := newest[key]
			if e.outcome == acknowledged && e.revision <= o.compacted &&
				(known == nil || known.revision < e.revision) {
				newest[key] = e
			}
		}
	}
	rows := map[string]*mvccpb.KeyValue{}
	for _, kv := range o.base {
		key := string(kv.Key)
		rows[key] = kv
		last := newest[key]
		if last != nil && last.revision > kv.ModRevision {
			return fmt.Errorf("compacted at %d: %s is of %d, acknowledged was %d", o.compacted, key,
				kv.ModRevision, last.revision)
		}
		old := last != nil && last.changes[key] != nil && *last.changes[key] == string(kv.Value)
		if !old && !possible[key+"="+string(kv.Value)] {
			return fmt.Errorf("compacted at %d: %s was asked for by nobody", o.compacted, key)
		}
	}
	for key, e := range newest {
		if e.revision <= o.compacted && e.changes[key] != nil && rows[key] == nil &&
			!l.maybeDeleted(key) {
			return fmt.Errorf("compacted at %d: %s of %d is lost", o.compacted, key, e.revision)
		}
	}
	return nil
}

// maybeDeleted says whether a request of unknown outcome may have deleted the key.
func (l *ledger) maybeDeleted(key string) bool {
	for _, e := range l.entries {
		if value, ok := e.changes[key]; ok && value == nil && e.outcome == unknown {
			return true
		}
	}
	return false
}

// checkState replays the history on the base.
func (l *ledger) checkState(o *observed) error {
	replayed := map[string]*mvccpb.KeyValue{}
	for _, kv := range o.base {
		replayed[string(kv.Key)] = kv
	}
	for _, event := range o.events {
		key := string(event.Kv.Key)
		if event.Kv.ModRevision <= o.compacted {
			continue
		}
		if event.Type == mvccpb.Event_DELETE {
			delete(replayed, key)
			continue
		}
		version, created := int64(1), event.Kv.ModRevision
		if before := replayed[key]; before != nil {
			version, created = before.Version+1, before.CreateRevision
		}
		if event.Kv.Version != version || event.Kv.CreateRevision != created {
			return fmt.Errorf("%s at %d: version %d of creation %d, by its history %d of %d", key,
				event.Kv.ModRevision, event.Kv.Version, event.Kv.CreateRevision, version, created)
		}
		replayed[key] = event.Kv
	}
	if len(replayed) != len(o.state) {
		return fmt.Errorf("%d keys, by the history %d", len(o.state), len(replayed))
	}
	for _, kv := range o.state {
		want := replayed[string(kv.Key)]
		if want == nil || string(want.Value) != string(kv.Value) || want.Version != kv.Version ||
			want.ModRevision != kv.ModRevision || want.CreateRevision != kv.CreateRevision ||
			want.Lease != kv.Lease {
			return fmt.Errorf("%s at %d is not what its history says", kv.Key, kv.ModRevision)
		}
	}
	return nil
}

func (l *ledger) checkLeases(o *observed) error {
	keys := map[int64][]string{}
	for _, kv := range o.state {
		if kv.Lease != 0 {
			keys[kv.Lease] = append(keys[kv.Lease], string(kv.Key))
		}
	}
	for id, known := range l.leases {
		there, present := o.leases[id]
		switch {
		case known.granted == acknowledged && !known.tried && !present:
			return fmt.Errorf("lease %d was granted and is lost", id)
		case (known.revoked == acknowledged || known.granted == refused) && present:
			return fmt.Errorf("lease %d was revoked or refused and is there", id)
		case present && there.ttl != known.ttl:
			return fmt.Errorf("lease %d is of %d s, granted was %d", id, there.ttl, known.ttl)
		}
	}
	for id, there := range o.leases {
		if l.leases[id] == nil {
			return fmt.Errorf("lease %d was asked for by nobody", id)
		}
		want := keys[id]
		slices.Sort(want)
		if !slices.Equal(want, there.keys) {
			return fmt.Errorf("lease %d has %q, the keys say %q", id, there.keys, want)
		}
		delete(keys, id)
	}
	if len(keys) != 0 {
		return fmt.Errorf("keys of leases that are not there: %v", keys)
	}
	return nil
}

// settle makes what was found the known past, and forgets what compaction will never show again.
func (l *ledger) settle(o *observed) {
	var kept []*entry
	for _, e := range l.entries {
		if e.found != 0 {
			e.outcome, e.revision = acknowledged, e.found
		} else if e.outcome == unknown {
			e.outcome = refused
		}
		if e.outcome == refused || len(e.changes) == 0 {
			continue
		}
		if e.revision > o.compacted {
			kept = append(kept, e)
			continue
		}
		for key := range e.changes {
			if known := l.latest[key]; known == nil || known.revision < e.revision {
				l.latest[key] = e
			}
		}
	}
	l.entries = kept
	// A write found nowhere may have been made and overwritten before the compact revision: the
	// base tells.
	for _, kv := range o.base {
		key, value := string(kv.Key), string(kv.Value)
		if known := l.latest[key]; known == nil || known.revision < kv.ModRevision {
			l.latest[key] = &entry{changes: map[string]*string{key: &value}, outcome: acknowledged,
				revision: kv.ModRevision, found: kv.ModRevision}
		}
	}
	for id := range l.leases {
		if _, present := o.leases[id]; !present {
			delete(l.leases, id)
			continue
		}
		l.leases[id].granted, l.leases[id].tried = acknowledged, false
	}
	l.newest = max(l.newest, o.revision)
}

func sameChanges(a, b map[string]*string) bool {
	return maps.EqualFunc(a, b, func(x, y *string) bool {
		return (x == nil) == (y == nil) && (x == nil || *x == *y)
	})
}

func (e *entry) String() string { return show(e.changes) }

func show(changes map[string]*string) string {
	var parts []string
	for key, value := range changes {
		if value == nil {
			parts = append(parts, "delete "+key)
		} else {
			parts = append(parts, fmt.Sprintf("put %s=%.30s", key, *value))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
