package kubernetes

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

func sample(t *testing.T) *history {
	h := &history{}
	for _, w := range []write{
		{revision: 9, key: "/a/1", value: nil, guard: 5},
		{revision: 3, key: "/a/1", value: []byte("one")},
		{revision: 5, key: "/a/1", value: []byte("two"), guard: 3},
		{revision: 4, key: "/a/2", value: []byte("x")},
		{revision: 6, key: "/b/1", value: []byte("other")},
		{revision: 11, key: "/a/1", value: []byte("again")},
	} {
		h.add(&w)
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	return h
}

// truth is the watch of /a/ from revision 4 as it should be, with bookmarks in between.
func truth(h *history) *watched {
	w := &watched{prefix: "/a/", start: 4, told: []told{{revision: 3}}}
	for _, one := range h.writes {
		if one.revision < 4 || one.key[:3] != "/a/" {
			continue
		}
		event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(one.key),
			ModRevision: one.revision}, Type: mvccpb.Event_DELETE}
		if one.after != nil {
			event.Type, event.Kv = mvccpb.Event_PUT, proto.Clone(one.after).(*mvccpb.KeyValue)
		}
		if one.before != nil {
			event.PrevKv = proto.Clone(one.before).(*mvccpb.KeyValue)
		}
		w.told = append(w.told, told{event, one.revision}, told{revision: one.revision})
	}
	return w
}

// The checks of this package see every lie about a watch.
func TestWatchChecksNotice(t *testing.T) {
	h := sample(t)
	events, bookmarks, err := h.checkWatch(truth(h))
	if err != nil || events != 4 || bookmarks != 5 {
		t.Fatalf("the truth: %d events, %d bookmarks, %v", events, bookmarks, err)
	}
	for name, lie := range map[string]func(w *watched){
		"lost event":       func(w *watched) { w.told = slices.Delete(w.told, 1, 2) },
		"repeated event":   func(w *watched) { w.told = slices.Insert(w.told, 1, w.told[1]) },
		"swapped events":   func(w *watched) { w.told[1], w.told[3] = w.told[3], w.told[1] },
		"early bookmark":   func(w *watched) { w.told[2].revision = 5 },
		"bookmark at end":  func(w *watched) { w.told = append(w.told[:7], told{revision: 11}) },
		"start too early":  func(w *watched) { w.start = 3 },
		"older header":     func(w *watched) { w.told[3].revision = 4 },
		"value":            func(w *watched) { w.told[1].event.Kv.Value = []byte("y") },
		"version":          func(w *watched) { w.told[3].event.Kv.Version = 1 },
		"create revision":  func(w *watched) { w.told[3].event.Kv.CreateRevision = 5 },
		"mod revision":     func(w *watched) { w.told[3].event.Kv.ModRevision = 6 },
		"key":              func(w *watched) { w.told[1].event.Kv.Key = []byte("/a/3") },
		"kind":             func(w *watched) { w.told[5].event.Type = mvccpb.Event_PUT },
		"delete has value": func(w *watched) { w.told[5].event.Kv.Value = []byte("two") },
		"no previous":      func(w *watched) { w.told[3].event.PrevKv = nil },
		"older previous":   func(w *watched) { w.told[5].event.PrevKv.ModRevision = 3 },
		"previous value":   func(w *watched) { w.told[5].event.PrevKv.Value = []byte("one") },
		"needless previous": func(w *watched) {
			w.told[7].event.PrevKv = &mvccpb.KeyValue{Key: []byte("/a/1")}
		},
		"event of another": func(w *watched) {
			w.told = append(w.told, told{&mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("/a/9"),
				ModRevision: 12}}, 12})
		},
	} {
		w := truth(h)
		lie(w)
		if _, _, err := h.checkWatch(w); err == nil {
			t.Errorf("unnoticed: %s", name)
		}
	}
}

// And about lists, and about writes that cannot both have happened.
func TestListAndWriteChecksNotice(t *testing.T) {
	h := sample(t)
	rows := func() []*mvccpb.KeyValue {
		return []*mvccpb.KeyValue{
			{Key: []byte("/a/1"), Value: []byte("two"), CreateRevision: 3, ModRevision: 5,
				Version: 2},
			{Key: []byte("/a/2"), Value: []byte("x"), CreateRevision: 4, ModRevision: 4,
				Version: 1},
		}
	}
	honest := func() *list {
		return &list{how: "list", prefix: "/a/", revision: 8, rows: rows(), count: 2}
	}
	if err := h.checkLists([]*list{honest()}); err != nil {
		t.Fatalf("the truth: %v", err)
	}
	for name, lie := range map[string]func(l *list){
		"lost row":      func(l *list) { l.rows = l.rows[1:] },
		"stale row":     func(l *list) { l.rows[0].Value = []byte("one") },
		"order":         func(l *list) { slices.Reverse(l.rows) },
		"count":         func(l *list) { l.count = 3 },
		"revision":      func(l *list) { l.revision = 9 },
		"version":       func(l *list) { l.rows[0].Version = 1 },
		"repeated row":  func(l *list) { l.rows = append(l.rows, l.rows[1]) },
		"value in keys": func(l *list) { l.keysOnly = true },
	} {
		l := honest()
		lie(l)
		if err := h.checkLists([]*list{l}); err == nil {
			t.Errorf("unnoticed: %s", name)
		}
	}
	for name, w := range map[string]write{
		"same revision":   {revision: 5, key: "/c", value: []byte("1")},
		"broken guard":    {revision: 20, key: "/a/2", value: []byte("1"), guard: 3},
		"create of a key": {revision: 20, key: "/a/2", value: []byte("1")},
		"lost update":     {revision: 4, key: "/a/1", value: []byte("1"), guard: 3},
	} {
		h := sample(t)
		h.add(&w)
		if h.settle() == nil {
			t.Errorf("unnoticed: %s", name)
		}
	}
}
