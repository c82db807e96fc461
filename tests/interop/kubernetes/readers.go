package kubernetes

import (
	"context"
	"errors"
	"math/rand"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"kvorum/interop/harness"
)

// watchCache follows one resource from a revision to the end of the run, as an apiserver's cache.
func (w *world) watchCache(client *kubernetes.Client, prefix string, from int64, at *position) {
	one := &watched{prefix: prefix, start: from}
	defer w.keepWatch(one)
	w.follow(w.caches, client, one, at)
}

// follow records a watch until its context ends.
func (w *world) follow(
	ctx context.Context, client *kubernetes.Client, one *watched, at *position,
) {
	channel := client.Watch(clientv3.WithRequireLeader(ctx), one.prefix, clientv3.WithPrefix(),
		clientv3.WithRev(one.start), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
	for response := range channel {
		switch err := response.Err(); {
		case ctx.Err() != nil:
			return
		case errors.Is(err, rpctypes.ErrCompacted) && response.CompactRevision > one.start:
			w.count("watches behind compaction", 1)
			return
		case err != nil:
			w.failCache("watch of %s: %v", one.prefix, err)
			return
		}
		revision, reached := response.Header.Revision, response.Header.Revision
		if response.IsProgressNotify() {
			one.told = append(one.told, told{revision: revision})
		}
		for _, event := range response.Events {
			one.told = append(one.told, told{(*mvccpb.Event)(event), revision})
			// Of history under way only what was told counts.
			reached = event.Kv.ModRevision
		}
		if at != nil {
			at.revision.Store(reached)
		}
	}
}

// progress asks for bookmarks every 100 ms, as an apiserver does while reads wait for its cache.
func (w *world) progress(client *kubernetes.Client) {
	ctx := clientv3.WithRequireLeader(w.caches)
	for w.caches.Err() == nil {
		if err := client.RequestProgress(ctx); err != nil {
			w.failCache("progress request: %v", err)
		}
		w.count("progress requests", 1)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-w.caches.Done():
		}
	}
}

// consistentReads measure how long a read from the cache waits until the cache is known to be as
// new as the store was when the read began.
func (w *world) consistentReads(client *kubernetes.Client, prefix string, at *position) {
	for !w.over() {
		begin, before := time.Now(), w.history.acknowledged.Load()
		r, err := client.Kubernetes.Get(w.ctx, prefix, kubernetes.GetOptions{})
		if err != nil {
			w.fail("current revision: %v", err)
			return
		}
		w.fresh("current revision", before, r.Revision)
		for !w.over() && at.revision.Load() < r.Revision {
			if time.Since(begin) > harness.Patience {
				w.fail("the cache of %s is at %d, %v after the store was at %d", prefix,
					at.revision.Load(), harness.Patience, r.Revision)
			}
			time.Sleep(time.Millisecond)
		}
		if !w.over() {
			w.mutex.Lock()
			w.waits = append(w.waits, time.Since(begin))
			w.mutex.Unlock()
		}
		w.pause(150 * time.Millisecond)
	}
}

// reflector lists and then watches for a while, over and over.
func (w *world) reflector(client *kubernetes.Client, prefix string, seed int64) {
	random := rand.New(rand.NewSource(seed))
	for !w.over() {
		var l *list
		switch random.Intn(3) {
		case 0:
			l = w.streamedList(client, prefix)
		case 1:
			l = w.pagedList(client, prefix, 0)
		default:
			l = w.pagedList(client, prefix, int64(1+random.Intn(60)))
		}
		if l == nil {
			continue
		}
		w.keepList(l)
		length := time.Duration(500+random.Intn(2500)) * time.Millisecond
		ctx, cancel := context.WithTimeout(w.ctx, length)
		one := &watched{prefix: prefix, start: l.revision + 1}
		w.follow(ctx, client, one, nil)
		cancel()
		w.keepWatch(one)
	}
}

// pagedList lists in pages at the revision of the first. A page after a compaction beyond it is
// refused, and the list starts anew.
func (w *world) pagedList(client *kubernetes.Client, prefix string, limit int64) *list {
	l := &list{how: "paged list", prefix: prefix, rows: []*mvccpb.KeyValue{}}
	before := w.history.acknowledged.Load()
	options := kubernetes.ListOptions{Limit: limit}
	for {
		page, err := client.Kubernetes.List(w.ctx, prefix, options)
		if options.Revision != 0 && errors.Is(err, rpctypes.ErrCompacted) {
			w.count("lists behind compaction", 1)
			return nil
		}
		if err != nil {
			w.fail("list: %v", err)
			return nil
		}
		w.fresh("list", before, page.Revision)
		w.count("pages", 1)
		if options.Revision == 0 {
			l.revision, l.count = page.Revision, page.Count
		}
		// What remains to be listed is what the apiserver tells its client.
		if page.Count != l.count-int64(len(l.rows)) {
			w.fail("page of %s after %d rows counts %d of %d", prefix, len(l.rows), page.Count,
				l.count)
		}
		l.rows = append(l.rows, page.Kvs...)
		if int64(len(page.Kvs)) >= page.Count {
			return l
		}
		options.Revision = l.revision
		options.Continue = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// streamedList is the list of apiservers from 1.37 on.
func (w *world) streamedList(client *kubernetes.Client, prefix string) *list {
	before := w.history.acknowledged.Load()
	stream, err := client.GetStream(w.ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		w.fail("streamed list: %v", err)
		return nil
	}
	r, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		w.fail("streamed list: %v", err)
		return nil
	}
	w.fresh("streamed list", before, r.Header.Revision)
	w.count("streamed lists", 1)
	return &list{how: "streamed list", prefix: prefix, revision: r.Header.Revision,
		rows: append([]*mvccpb.KeyValue{}, r.Kvs...), count: r.Count}
}

// estimator counts objects and lists keys, as the apiserver does for its metrics.
func (w *world) estimator(client *kubernetes.Client, prefix string) {
	for !w.over() {
		before := w.history.acknowledged.Load()
		count, err := client.KV.Get(w.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			w.fail("count: %v", err)
			return
		}
		w.fresh("count", before, count.Header.Revision)
		w.keepList(&list{how: "count", prefix: prefix, revision: count.Header.Revision,
			count: count.Count})
		keys, err := client.KV.Get(w.ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			w.fail("keys: %v", err)
			return
		}
		w.keepList(&list{how: "keys", prefix: prefix, revision: keys.Header.Revision,
			rows: append([]*mvccpb.KeyValue{}, keys.Kvs...), count: keys.Count, keysOnly: true})
		if _, err := client.Status(w.ctx, w.server.Endpoint()); err != nil {
			w.fail("status: %v", err)
		}
		w.pause(time.Second)
	}
}
