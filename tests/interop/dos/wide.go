package dos

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"kvorum/interop/harness"
)

const (
	wideKeys  = 1_000_000
	heavyKeys = 64
	txnOps    = 125
)

func wideKey(number int) string  { return fmt.Sprintf("wide/%07d", number) }
func heavyKey(number int) string { return fmt.Sprintf("heavy/%02d", number) }

// wideRows are ranges over a million keys.
var wideRows = []row{
	{name: "1 M-key range, 16 at once", world: wide, attack: wideRanges(16, 1, true), seconds: 3,
		must: some("bytes heard"), peak: 400},
	{name: "1 M-key range, 64 that nobody takes", world: wide, attack: wideRanges(16, 4, false),
		seconds: 3, must: atLeast(16, "asked"), peak: 400},
	{name: "1 M keys sorted by value, 8 at once", world: wide, attack: wideSorts, seconds: 3,
		must: some("answers", "refused", "reset"), peak: 400},
	{name: "1 M-key count, 64 at once", world: wide, attack: wideCounts,
		must: atLeast(100, "answered")},
	{name: "streamed 1 M-key range, 16 at once", world: wide, attack: wideStreams,
		must: some("bytes heard")},
	{name: "streamed 1 M-key range, 64 that nobody takes", world: wide,
		attack: wideUntaken("/etcdserverpb.KV/RangeStream"), must: atLeast(64, "asked")},
	{name: "txn of 128 ranges of 1 M keys", world: wide, attack: wideRangeTxns, seconds: 3,
		must: some("answers", "refused", "reset", "asked"), peak: 400},
	{name: "1 M keys deleted, 50 k at once", world: wide, attack: wideDeletes, seconds: 3,
		must: some("answered"), peak: 400, keeps: 400},
}

// seed fills a fresh server as its world says.
func seed(t testing.TB, server *harness.Server, of world) {
	t.Helper()
	client := server.Client(t)
	begin := time.Now()
	switch of {
	case wide:
		seedWide(t, client)
	case heavy:
		value := string(make([]byte, 1<<20))
		for number := range heavyKeys {
			if _, err := client.Put(harness.Context(t), heavyKey(number), value); err != nil {
				t.Fatal(err)
			}
		}
	default:
		return
	}
	t.Logf("%s: filled in %v, %d MiB", of, time.Since(begin).Round(time.Millisecond),
		memory(server.Pid())>>20)
}

func seedWide(t testing.TB, client *clientv3.Client) {
	t.Helper()
	const writers = 16
	failures := make(chan error, writers)
	for writer := range writers {
		go func() {
			var err error
			for from := writer * txnOps; err == nil && from < wideKeys; from += writers * txnOps {
				var puts []clientv3.Op
				for number := from; number < min(from+txnOps, wideKeys); number++ {
					puts = append(puts, clientv3.OpPut(wideKey(number), "a value of a few bytes"))
				}
				_, err = client.Txn(context.Background()).Then(puts...).Commit()
			}
			failures <- err
		}()
	}
	for range writers {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
}

func everything() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte("wide/"), RangeEnd: []byte("wide0")}
}

// wideRanges asks for everything, so often on each of so many connections, and takes it or not.
func wideRanges(connections, each int, takes bool) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		a.wideCalls(connections, each, takes, rangePath, everything())
	}
}

// wideUntaken asks for everything 64 times, by some way, and takes a byte of each answer.
func wideUntaken(path string) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		a.wideCalls(16, 4, false, path, everything())
	}
}

// wideCalls makes calls whose answers are large; what is taken is only counted, for to decode it
// is more work than to make it.
func (a *attacker) wideCalls(connections, each int, takes bool, path string, request proto.Message) {
	a.crowd(connections, func(int) {
		window := uint32(1)
		if takes {
			window = 1 << 30
		}
		w, err := a.open(setting(http2.SettingInitialWindowSize, window)...)
		if err != nil {
			a.note("connection refused")
			time.Sleep(paceAfterClose)
			return
		}
		defer w.Close()
		if takes {
			_ = w.framer.WriteWindowUpdate(0, 1<<30)
		}
		for range each {
			if _, err := w.call(path, request, true); err != nil || w.out.Flush() != nil {
				return
			}
			a.note("asked")
		}
		if !takes {
			a.listen(w, ear{})
			a.lingers()
			return
		}
		a.takeAll(w, each)
	})
}

// takeAll hears so many answers to their ends.
func (a *attacker) takeAll(w *wire, answers int) {
	for ended := 0; ended < answers; {
		_ = w.SetReadDeadline(time.Now().Add(prepareMax))
		frame, err := w.framer.ReadFrame()
		if err != nil {
			a.noteEnd(err)
			return
		}
		a.hear(w, frame, ear{widens: true})
		switch f := frame.(type) {
		case *http2.DataFrame:
			ended += btoi(f.StreamEnded())
		case *http2.HeadersFrame:
			ended += btoi(f.StreamEnded())
		case *http2.RSTStreamFrame:
			ended++
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func wideSorts(a *attacker) {
	request := everything()
	request.SortOrder, request.SortTarget = pb.RangeRequest_DESCEND, pb.RangeRequest_VALUE
	a.begins()
	a.wideCalls(8, 1, true, rangePath, request)
}

func wideCounts(a *attacker) {
	request := everything()
	request.CountOnly = true
	a.begins()
	a.crowd(8, func(int) {
		conn := a.connect()
		defer conn.Close()
		a.crowd(8, func(int) {
			_, err := pb.NewKVClient(conn).Range(a.ctx, request)
			a.outcome(err)
		})
	})
}

func wideStreams(a *attacker) {
	a.begins()
	a.wideCalls(16, 1, true, "/etcdserverpb.KV/RangeStream", everything())
}

// wideRangeTxns asks for everything 128 times in a transaction.
func wideRangeTxns(a *attacker) {
	txn := &pb.TxnRequest{}
	for range 128 {
		txn.Success = append(txn.Success, &pb.RequestOp{
			Request: &pb.RequestOp_RequestRange{RequestRange: everything()}})
	}
	a.begins()
	a.wideCalls(2, 1, true, "/etcdserverpb.KV/Txn", txn)
}

// wideDeletes deletes tens of thousands of keys at once, until none is left.
func wideDeletes(a *attacker) {
	conn := a.connect()
	kv := pb.NewKVClient(conn)
	a.begins()
	for from := 0; a.goesOn(); from += 50_000 {
		from %= wideKeys
		_, err := kv.DeleteRange(a.ctx, &pb.DeleteRangeRequest{Key: []byte(wideKey(from)),
			RangeEnd: []byte(wideKey(from + 50_000))})
		a.outcome(err)
	}
}
