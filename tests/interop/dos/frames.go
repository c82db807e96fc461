package dos

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

const (
	// paceAfterClose keeps an attacker that is thrown out from measuring how fast it can connect.
	paceAfterClose = 5 * time.Millisecond
	flushEvery     = 64
	bufferBytes    = 64 << 10
)

// wire is a connection on which an attacker writes frames by hand.
type wire struct {
	net.Conn
	framer *http2.Framer
	out    *bufio.Writer
	block  bytes.Buffer
	packer *hpack.Encoder
	next   uint32
}

// dial connects; nothing lingers when it is closed, for the ports of this machine are few.
func dial(address string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	return conn, err
}

// open connects and says the client's preface.
func (a *attacker) open(settings ...http2.Setting) (*wire, error) {
	conn, err := dial(a.Client)
	if err != nil {
		return nil, err
	}
	if config := a.secrecy(); config != nil {
		config = config.Clone()
		config.NextProtos, config.ServerName = []string{"h2"}, "127.0.0.1"
		conn = tls.Client(conn, config)
	}
	w := &wire{Conn: conn, out: bufio.NewWriterSize(conn, bufferBytes), next: 1}
	w.framer = http2.NewFramer(w.out, bufio.NewReaderSize(conn, bufferBytes))
	w.framer.AllowIllegalWrites = true
	w.framer.SetMaxReadFrameSize(16 << 20)
	w.packer = hpack.NewEncoder(&w.block)
	_, _ = w.out.WriteString(http2.ClientPreface)
	if err := w.framer.WriteSettings(settings...); err != nil {
		return nil, err
	}
	return w, w.out.Flush()
}

// fields packs the header fields of a gRPC request, and more.
func (w *wire) fields(path string, more ...string) []byte {
	w.block.Reset()
	all := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers"}, more...)
	for at := 0; at < len(all); at += 2 {
		_ = w.packer.WriteField(hpack.HeaderField{Name: all[at], Value: all[at+1]})
	}
	return w.block.Bytes()
}

// begin opens a stream with a request's headers.
func (w *wire) begin(path string, ends bool, more ...string) (uint32, error) {
	id := w.next
	w.next += 2
	return id, w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id,
		BlockFragment: w.fields(path, more...), EndHeaders: true, EndStream: ends})
}

// call sends a whole unary request, or the first of a stream's.
func (w *wire) call(path string, request proto.Message, ends bool) (uint32, error) {
	id, err := w.begin(path, false)
	if err != nil {
		return id, err
	}
	body := message(request)
	for len(body) > maxFrame {
		if err := w.framer.WriteData(id, false, body[:maxFrame]); err != nil {
			return id, err
		}
		body = body[maxFrame:]
	}
	return id, w.framer.WriteData(id, ends, body)
}

// maxFrame is the largest frame that a server takes unless it says more.
const maxFrame = 16 << 10

// message is a gRPC message with its head.
func message(request proto.Message) []byte {
	body, err := proto.Marshal(request)
	if err != nil {
		panic(err)
	}
	return framed(0, body)
}

func framed(packed byte, body []byte) []byte {
	head := make([]byte, 5, 5+len(body))
	head[0] = packed
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	return append(head, body...)
}

// ear is how a wire is listened to.
type ear struct {
	// widens gives back the room that data took.
	widens bool
	// deaf: nothing is read at all.
	deaf bool
}

// listen reads what the server says until it closes, counting by kind; what the server asked to
// be acknowledged is, by the next that is written.
func (a *attacker) listen(w *wire, how ear) {
	if how.deaf {
		return
	}
	go func() {
		for {
			frame, err := w.framer.ReadFrame()
			if err != nil {
				a.noteEnd(err)
				_ = w.Close()
				return
			}
			a.hear(w, frame, how)
		}
	}()
}

func (a *attacker) hear(w *wire, frame http2.Frame, how ear) {
	switch f := frame.(type) {
	case *http2.DataFrame:
		a.add("bytes heard", int64(len(f.Data())))
		if f.StreamEnded() {
			a.note("answers")
		}
		if how.widens && len(f.Data()) > 0 {
			// Written past the buffer, which belongs to whoever attacks.
			_, _ = w.Conn.Write(windowUpdate(0, uint32(len(f.Data()))))
			_, _ = w.Conn.Write(windowUpdate(f.StreamID, uint32(len(f.Data()))))
		}
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			a.note("answers")
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			a.note("goaway " + f.ErrCode.String())
		}
	case *http2.RSTStreamFrame:
		a.note("reset " + f.ErrCode.String())
	case *http2.PingFrame:
		a.note("pongs")
	}
}

func (a *attacker) noteEnd(err error) {
	if a.goesOn() {
		a.note("closed")
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() && err != io.EOF {
			a.note("closed late")
		}
	}
}

func windowUpdate(stream, increment uint32) []byte {
	frame := make([]byte, 13)
	frame[2], frame[3] = 4, byte(http2.FrameWindowUpdate)
	binary.BigEndian.PutUint32(frame[5:], stream)
	binary.BigEndian.PutUint32(frame[9:], increment)
	return frame
}

// flood opens connections again and again and writes on each until it is closed. Every second one
// reads nothing.
func (a *attacker) flood(size int, settings []http2.Setting, how ear, one func(*wire) error) {
	a.begins()
	a.crowd(size, func(number int) {
		w, err := a.open(settings...)
		if err != nil {
			a.note("connection refused")
			time.Sleep(paceAfterClose)
			return
		}
		defer w.Close()
		mine := how
		mine.deaf = how.deaf || number%2 == 1
		a.listen(w, mine)
		a.note("connections")
		a.pour(w, one)
		time.Sleep(paceAfterClose)
	})
}

// pour writes until the connection fails.
func (a *attacker) pour(w *wire, one func(*wire) error) {
	for count := 1; a.goesOn(); count++ {
		_ = w.SetWriteDeadline(time.Now().Add(patience))
		err := one(w)
		if err == nil && count%flushEvery == 0 {
			err = w.out.Flush()
			a.add("sent", flushEvery)
		}
		if err != nil {
			if a.goesOn() {
				a.note("thrown out")
			}
			return
		}
	}
}

// setting is for tables.
func setting(id http2.SettingID, value uint32) []http2.Setting {
	return []http2.Setting{{ID: id, Val: value}}
}

func errorf(format string, args ...any) string { return fmt.Sprintf(format, args...) }
