package dos

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// watchRows are watchers: many, deaf, or made without end.
var watchRows = []row{
	{name: "10 k watchers on one stream", world: plain, attack: watchers(1, 1, 10_000), seconds: 2,
		must: atLeast(10_000, "events")},
	{name: "a watcher on each of 10 k streams", world: plain, attack: watchers(10, 1000, 1),
		seconds: 2, must: atLeast(10_000, "events")},
	{name: "watchers that never read", world: plain, attack: deafWatchers, seconds: 2,
		must: atLeast(100, "asked")},
	{name: "watches created, answers unread", world: plain, attack: deaf(watchFrom("x", "", 0)),
		must: some("stuck", "closed")},
	{name: "progress asked for, answers unread", world: plain, attack: deaf(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_ProgressRequest{
			ProgressRequest: &pb.WatchProgressRequest{}}}),
		must: some("stuck", "closed")},
	{name: "watches created and cancelled", world: plain, attack: fickleWatchers,
		must: atLeast(1000, "asked")},
}

func watchFrom(key, end string, revision int64) *pb.WatchRequest {
	create := &pb.WatchCreateRequest{Key: []byte(key), StartRevision: revision}
	if end != "" {
		create.RangeEnd = []byte(end)
	}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
}

// watchers has so many connections, streams on each, watchers on each stream; all watch one key,
// which is written ten times a second.
func watchers(connections, streams, each int) func(*attacker) {
	return func(a *attacker) {
		// All of them are there before it counts.
		var created sync.WaitGroup
		created.Add(connections * streams * each)
		a.each(connections, func(int) {
			conn := a.connect()
			a.each(streams, func(int) { a.watch(conn, each, &created) })
		})
		created.Wait()
		a.begins()
		kv := pb.NewKVClient(a.connect())
		for a.goesOn() {
			_, err := kv.Put(a.ctx, &pb.PutRequest{Key: []byte("watched"), Value: []byte("v")})
			a.outcome(err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// watch opens a stream with so many watchers and counts what it hears.
func (a *attacker) watch(conn *grpc.ClientConn, watchers int, created *sync.WaitGroup) {
	stream, err := pb.NewWatchClient(conn).Watch(a.ctx)
	if err != nil {
		a.fails(err)
	}
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				if a.goesOn() {
					a.note("closed")
				}
				return
			}
			if response.Created {
				created.Done()
			}
			if len(response.Events) > 0 {
				a.add("events", int64(len(response.Events)))
			}
		}
	}()
	for range watchers {
		if err := stream.Send(watchFrom("watched", "", 0)); err != nil {
			a.fails(err)
		}
	}
}

// deafWatchers watch what is written, 256 KiB at a time, and never read.
func deafWatchers(a *attacker) {
	a.each(8, func(int) {
		w, err := a.open(setting(http2.SettingInitialWindowSize, 1)...)
		if err != nil {
			a.fails(err)
		}
		a.listen(w, ear{})
		for range 32 {
			_, err := w.call(watchPath, watchFrom("deaf/", "deaf0", 0), false)
			if err != nil || w.out.Flush() != nil {
				return
			}
			a.note("asked")
		}
	})
	kv := pb.NewKVClient(a.connect())
	value := []byte(strings.Repeat("v", 256<<10))
	a.begins()
	for one := 0; a.goesOn(); one++ {
		key := fmt.Appendf(nil, "deaf/%d", one%10)
		response, err := kv.Put(a.ctx, &pb.PutRequest{Key: key, Value: value})
		a.outcome(err)
		if err == nil && one%100 == 99 {
			// So that a minute of it does not fill the quota.
			_, _ = kv.Compact(a.ctx,
				&pb.CompactionRequest{Revision: response.Header.Revision - 50})
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// deaf sends requests on watch streams without end and reads no answer. A server that makes
// answers nobody takes must stop to read.
func deaf(request *pb.WatchRequest) func(*attacker) {
	return func(a *attacker) {
		// Many in a frame, for the server reads faster than frames are written one by one.
		body := bytes.Repeat(message(request), 100)
		a.begins()
		a.each(4, func(int) {
			w, err := a.open(setting(http2.SettingInitialWindowSize, 1)...)
			if err != nil {
				a.note("connection refused")
				return
			}
			room := newRoom(1<<16-1, 1<<16-1)
			go a.giveRoom(w, room)
			_, err = w.begin(watchPath, false)
			for err == nil && a.goesOn() {
				if !room.take(a.ctx, int64(len(body))) {
					a.note("stuck")
					return
				}
				if err = w.framer.WriteData(1, false, body); err == nil {
					err = w.out.Flush()
				}
				if err == nil {
					a.add("asked", 100)
				}
			}
		})
	}
}

// room is how much may still be sent, as the server says.
type room struct {
	mutex  sync.Mutex
	stream int64
	whole  int64
	more   chan struct{}
}

func newRoom(stream, whole int64) *room {
	return &room{stream: stream, whole: whole, more: make(chan struct{}, 1)}
}

func (r *room) give(stream, bytes int64) {
	r.mutex.Lock()
	if stream == 0 {
		r.whole += bytes
	} else {
		r.stream += bytes
	}
	r.mutex.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// take waits for room; there is none if it has not come within half a second.
func (r *room) take(ctx context.Context, bytes int64) bool {
	for {
		r.mutex.Lock()
		enough := r.stream >= bytes && r.whole >= bytes
		if enough {
			r.stream, r.whole = r.stream-bytes, r.whole-bytes
		}
		r.mutex.Unlock()
		if enough {
			return true
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			return true
		case <-time.After(500 * time.Millisecond):
			return false
		}
	}
}

// giveRoom hears how much the server takes.
func (a *attacker) giveRoom(w *wire, room *room) {
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			a.noteEnd(err)
			room.give(0, 1<<40)
			room.give(1, 1<<40)
			return
		}
		switch f := frame.(type) {
		case *http2.WindowUpdateFrame:
			room.give(int64(f.StreamID), int64(f.Increment))
		case *http2.SettingsFrame:
			if window, ok := f.Value(http2.SettingInitialWindowSize); ok {
				room.give(1, int64(window)-(1<<16-1))
			}
		}
	}
}

// fickleWatchers create and cancel as fast as they are answered.
func fickleWatchers(a *attacker) {
	a.begins()
	a.crowd(8, func(int) {
		conn := a.connect()
		defer conn.Close()
		stream, err := pb.NewWatchClient(conn).Watch(a.ctx)
		if err != nil {
			return
		}
		for a.goesOn() {
			if err := stream.Send(watchFrom("a", "z", 0)); err != nil {
				return
			}
			response, err := stream.Recv()
			if err != nil {
				return
			}
			a.note("asked")
			cancel := &pb.WatchCancelRequest{WatchId: response.WatchId}
			if !response.Created {
				continue
			}
			_ = stream.Send(&pb.WatchRequest{
				RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}})
		}
	})
}
