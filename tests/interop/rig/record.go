package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// Recorder writes a history in the format of tests/checker/history.rs, which explains it.
type Recorder struct {
	Path  string
	t     testing.TB
	begin time.Time

	mutex   sync.Mutex
	file    *os.File
	out     *bufio.Writer
	watches uint64
}

type (
	request struct {
		Put    *putRequest   `json:"put,omitempty"`
		Delete *span         `json:"delete,omitempty"`
		Range  *rangeRequest `json:"range,omitempty"`
		Txn    *txnRequest   `json:"txn,omitempty"`
	}
	putRequest struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	span struct {
		Key string `json:"key"`
		End string `json:"end,omitempty"`
	}
	rangeRequest struct {
		Key          string `json:"key"`
		End          string `json:"end,omitempty"`
		Serializable bool   `json:"serializable,omitempty"`
	}
	txnRequest struct {
		Compare []compare `json:"compare"`
		Success []request `json:"success"`
		Failure []request `json:"failure"`
	}
	compare struct {
		Key    string           `json:"key"`
		Is     string           `json:"is"`
		Target map[string]int64 `json:"target"`
	}
	operation struct {
		Client  uint64  `json:"client"`
		Call    int64   `json:"call"`
		Return  int64   `json:"return"`
		Request request `json:"request"`
		Outcome any     `json:"outcome"`
	}
	answer struct {
		Revision int64 `json:"revision"`
		Reply    any   `json:"reply"`
	}
	deleteReply struct {
		Delete struct {
			Deleted int64 `json:"deleted"`
		} `json:"delete"`
	}
	rangeReply struct {
		Range struct {
			Count int64 `json:"count"`
			Rows  []row `json:"rows"`
		} `json:"range"`
	}
	txnReply struct {
		Txn struct {
			Succeeded bool  `json:"succeeded"`
			Replies   []any `json:"replies"`
		} `json:"txn"`
	}
	row struct {
		Key     string `json:"key"`
		Value   string `json:"value"`
		Create  int64  `json:"create"`
		Mod     int64  `json:"mod"`
		Version int64  `json:"version"`
	}
	deletion struct {
		Key string `json:"key"`
		Mod int64  `json:"mod"`
	}
	watchLine struct {
		ID     uint64 `json:"id"`
		Key    string `json:"key"`
		End    string `json:"end,omitempty"`
		Start  int64  `json:"start"`
		PrevKV bool   `json:"prev_kv"`
	}
	heardLine struct {
		Watch    uint64           `json:"watch"`
		At       int64            `json:"at"`
		Revision int64            `json:"revision"`
		Events   []map[string]any `json:"events"`
		Previous []*row           `json:"previous,omitempty"`
	}
	compactionLine struct {
		Revision int64 `json:"revision"`
		Call     int64 `json:"call"`
		Return   int64 `json:"return"`
	}
	untilLine struct {
		Watch    uint64 `json:"watch"`
		Revision int64  `json:"revision"`
	}
)

// NewRecorder begins a history. It is in HISTORIES if that names a folder, or with the test.
func NewRecorder(t testing.TB) *Recorder {
	t.Helper()
	folder := os.Getenv("HISTORIES")
	if folder == "" {
		folder = harness.TempDir(t)
	}
	path := filepath.Join(folder, strings.ReplaceAll(t.Name(), "/", "-")+".history")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return &Recorder{Path: path, t: t, begin: time.Now(), file: file,
		out: bufio.NewWriterSize(file, 1<<20)}
}

// Now is the history's clock.
func (r *Recorder) Now() int64 { return int64(time.Since(r.begin)) }

func (r *Recorder) line(kind string, value any) {
	text, err := json.Marshal(map[string]any{kind: value})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, _ = r.out.Write(append(text, '\n'))
}

// op enters a request that has ended. Any error leaves open whether it was executed.
func (r *Recorder) op(client uint64, call int64, asked request, revision int64, reply any,
	err error) {
	o := operation{Client: client, Call: call, Return: r.Now(), Request: asked, Outcome: "unknown"}
	if err == nil {
		o.Outcome = map[string]any{"answered": answer{revision, reply}}
	}
	r.line("op", o)
}

// Compaction enters one that was asked for, whatever became of it: from its call on, rows from
// before it may be missing.
func (r *Recorder) Compaction(revision, call int64) {
	r.line("compact", compactionLine{revision, call, r.Now()})
}

// watch enters a watch that asks for the rows before, and tells its number.
func (r *Recorder) watch(key, end string, start int64) uint64 {
	r.mutex.Lock()
	r.watches++
	id := r.watches
	r.mutex.Unlock()
	r.line("watch", watchLine{id, key, end, start, true})
	return id
}

func (r *Recorder) heard(watch uint64, response clientv3.WatchResponse) {
	line := heardLine{Watch: watch, At: r.Now(), Revision: response.Header.Revision,
		Events: []map[string]any{}}
	for _, event := range response.Events {
		line.Events = append(line.Events, eventOf(event))
		var before *row
		if event.PrevKv != nil {
			kv := rowOf(event.PrevKv)
			before = &kv
		}
		line.Previous = append(line.Previous, before)
	}
	r.line("heard", line)
}

// close ends the file.
func (r *Recorder) close() {
	r.t.Helper()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err := r.out.Flush(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.file.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func eventOf(event *clientv3.Event) map[string]any {
	if event.Type == mvccpb.Event_DELETE {
		return map[string]any{"delete": deletion{string(event.Kv.Key), event.Kv.ModRevision}}
	}
	return map[string]any{"put": rowOf(event.Kv)}
}

func rowOf(kv *mvccpb.KeyValue) row {
	return row{string(kv.Key), short(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version}
}

func rangeReplyOf(r *clientv3.GetResponse) any {
	var reply rangeReply
	reply.Range.Count = r.Count
	reply.Range.Rows = []row{}
	for _, kv := range r.Kvs {
		reply.Range.Rows = append(reply.Range.Rows, rowOf(kv))
	}
	return reply
}

// valueShown is how much of a long value stands in the history, before its length and hash.
const valueShown = 24

// short is a value, or what stands for a long one.
func short(value []byte) string {
	if len(value) <= 2*valueShown {
		return string(value)
	}
	hash := fnv.New64a()
	_, _ = hash.Write(value)
	return fmt.Sprintf("%s+%d-%x", value[:valueShown], len(value)-valueShown, hash.Sum64())
}
