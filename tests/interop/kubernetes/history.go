// Package kubernetes drives a server the way kube-apiserver does and checks what it was told
// against what it was promised.
//
//   - Writes are guarded transactions: each names the revision it replaces, so the acknowledged
//     writes alone say what every state was.
//   - Readers only record while the load runs; afterwards every list, event and bookmark is
//     compared with that history.
//   - Compaction runs meanwhile by the apiservers' own protocol.
package kubernetes

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// write is one acknowledged change of a key. A nil value is a delete.
type write struct {
	revision int64
	key      string
	value    []byte
	// guard is the revision the key had to be at: 0 for none.
	guard int64

	before, after *mvccpb.KeyValue
}

// history is every acknowledged write, in revision order once settled.
type history struct {
	mutex  sync.Mutex
	writes []*write
	// acknowledged is the newest revision a client was told of: no later read may be older.
	acknowledged atomic.Int64
}

func (h *history) add(w *write) {
	h.mutex.Lock()
	h.writes = append(h.writes, w)
	h.mutex.Unlock()
	h.seen(w.revision)
}

func (h *history) seen(revision int64) {
	for {
		known := h.acknowledged.Load()
		if revision <= known || h.acknowledged.CompareAndSwap(known, revision) {
			return
		}
	}
}

// settle orders the writes, checks that they are possible, and works out every key's states.
func (h *history) settle() error {
	slices.SortFunc(h.writes, func(a, b *write) int { return int(a.revision - b.revision) })
	state := map[string]*mvccpb.KeyValue{}
	last := int64(0)
	for _, w := range h.writes {
		if w.revision == last {
			return fmt.Errorf("two writes were acknowledged at revision %d", last)
		}
		last = w.revision
		w.before = state[w.key]
		if w.before.GetModRevision() != w.guard {
			return fmt.Errorf("%s: the write at %d was acknowledged against revision %d, but the "+
				"key was at %d", w.key, w.revision, w.guard, w.before.GetModRevision())
		}
		if w.value == nil {
			delete(state, w.key)
			continue
		}
		w.after = &mvccpb.KeyValue{Key: []byte(w.key), Value: w.value, ModRevision: w.revision,
			CreateRevision: w.revision, Version: 1}
		if w.before != nil {
			w.after.CreateRevision, w.after.Version = w.before.CreateRevision, w.before.Version+1
		}
		state[w.key] = w.after
	}
	return nil
}

// list is what one complete list of a prefix returned.
type list struct {
	how      string
	prefix   string
	revision int64
	rows     []*mvccpb.KeyValue
	keysOnly bool
	// count is the number of rows alone, when rows is nil.
	count int64
}

// checkLists compares lists with the states they claim to be, in one pass over the history.
func (h *history) checkLists(lists []*list) error {
	slices.SortStableFunc(lists, func(a, b *list) int { return int(a.revision - b.revision) })
	state := map[string]*mvccpb.KeyValue{}
	next := 0
	for _, l := range lists {
		for ; next < len(h.writes) && h.writes[next].revision <= l.revision; next++ {
			if w := h.writes[next]; w.after == nil {
				delete(state, w.key)
			} else {
				state[w.key] = w.after
			}
		}
		var want []*mvccpb.KeyValue
		for key, kv := range state {
			if strings.HasPrefix(key, l.prefix) {
				want = append(want, kv)
			}
		}
		if err := l.check(want); err != nil {
			return fmt.Errorf("%s of %s at revision %d: %w", l.how, l.prefix, l.revision, err)
		}
	}
	return nil
}

func (l *list) check(want []*mvccpb.KeyValue) error {
	if l.count != int64(len(want)) {
		return fmt.Errorf("%d counted, %d written", l.count, len(want))
	}
	if l.rows == nil {
		return nil
	}
	slices.SortFunc(want, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	if len(l.rows) != len(want) {
		return fmt.Errorf("%d rows, %d written", len(l.rows), len(want))
	}
	for i, kv := range want {
		if !sameRow(l.rows[i], kv, l.keysOnly) {
			return fmt.Errorf("row %d is %s at %d, written was %s at %d", i, l.rows[i].Key,
				l.rows[i].ModRevision, kv.Key, kv.ModRevision)
		}
	}
	return nil
}

func sameRow(a, b *mvccpb.KeyValue, keysOnly bool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Key, b.Key) && a.ModRevision == b.ModRevision &&
		a.CreateRevision == b.CreateRevision && a.Version == b.Version &&
		(keysOnly && len(a.Value) == 0 || !keysOnly && bytes.Equal(a.Value, b.Value))
}

// watched is what one watch of a prefix was told, in order.
type watched struct {
	prefix string
	start  int64
	told   []told
}

// told is an event, or a bookmark when event is nil.
type told struct {
	event *mvccpb.Event
	// revision of the response's header.
	revision int64
}

// checkWatch compares a watch with the writes since its start: each exactly once, in order, with
// what was there before; and no bookmark ahead of a write not yet told. It returns how many
// events and bookmarks it checked.
func (h *history) checkWatch(w *watched) (events, bookmarks int, err error) {
	var due []*write
	for _, one := range h.writes {
		if one.revision >= w.start && strings.HasPrefix(one.key, w.prefix) {
			due = append(due, one)
		}
	}
	for _, t := range w.told {
		if t.event == nil {
			bookmarks++
			if events < len(due) && due[events].revision <= t.revision {
				return events, bookmarks, fmt.Errorf("bookmark %d before the event of %s at %d",
					t.revision, due[events].key, due[events].revision)
			}
			continue
		}
		if events == len(due) {
			return events, bookmarks, fmt.Errorf("%s at %d was never acknowledged", t.event.Kv.Key,
				t.event.Kv.ModRevision)
		}
		if err := due[events].check(t); err != nil {
			return events, bookmarks, fmt.Errorf("event %d: %w", events, err)
		}
		events++
	}
	return events, bookmarks, nil
}

func (w *write) check(t told) error {
	e := t.event
	if string(e.Kv.Key) != w.key || e.Kv.ModRevision != w.revision {
		return fmt.Errorf("%s at %d, due was %s at %d", e.Kv.Key, e.Kv.ModRevision, w.key,
			w.revision)
	}
	if t.revision < w.revision {
		return fmt.Errorf("%s at %d came under revision %d", w.key, w.revision, t.revision)
	}
	switch {
	case (e.Type == mvccpb.Event_DELETE) != (w.after == nil):
		return fmt.Errorf("%s at %d is a %s", w.key, w.revision, e.Type)
	case w.after == nil && (len(e.Kv.Value) != 0 || e.Kv.CreateRevision != 0 || e.Kv.Version != 0):
		return fmt.Errorf("%s at %d: a delete with more than key and revision", w.key, w.revision)
	case w.after != nil && !sameRow(e.Kv, w.after, false):
		return fmt.Errorf("%s at %d: another value or version than written", w.key, w.revision)
	case !sameRow(e.PrevKv, w.before, false):
		return fmt.Errorf("%s at %d: previous value of %d, written at %d", w.key, w.revision,
			e.PrevKv.GetModRevision(), w.before.GetModRevision())
	}
	return nil
}
