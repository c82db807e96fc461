package dos

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// connectionRows are connections that say nothing, or little by little, and many of them.
var connectionRows = []row{
	{name: "5 k idle TCP", world: plain, attack: idle(5000, ""), seconds: 2,
		must: both(atLeast(5000, "connections"), never("connection refused"))},
	{name: "h2 preface byte by byte", world: plain, seconds: 2,
		attack: trickle(2000, "PRI * HTTP/2.0\r\n\r\nSM\r", nothing),
		must:   atLeast(2000, "connections")},
	{name: "HTTP/1 headers byte by byte", world: plain, seconds: 2,
		attack: trickle(2000, "GET /health HTTP/1.1\r\nHost: x\r\nA: ", letters),
		must:   atLeast(2000, "connections")},
	{name: "HTTP/1 bodies byte by byte", world: plain, seconds: 2,
		attack: trickle(2000, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"+
			"\r\n", letters),
		must: atLeast(2000, "connections")},
	{name: "HTTP/1 header without end", world: plain,
		attack: torrent(16, "GET /health HTTP/1.1\r\nHost: x\r\nA: "), must: some("closed", "status 4")},
	{name: "HTTP/1 headers without end", world: plain, attack: headersWithoutEnd,
		must: some("closed", "status 4")},
	{name: "HTTP/1 requests, answers unread", world: plain, attack: pipelined,
		must: some("thrown out", "stuck")},
	{name: "connections as fast as can be", world: plain, attack: connects(false),
		must: atLeast(1000, "connections")},
	{name: "metrics port: 500 byte by byte", world: plain, attack: metricsTrickle,
		must: some("connections")},
}

// secretRows are the same on a port that speaks TLS.
var secretRows = []row{
	{name: "TLS: 5 k silent", world: secret, attack: idle(5000, ""), seconds: 3,
		must: both(atLeast(5000, "connections"), atLeast(4000, "closed"))},
	{name: "TLS: hello byte by byte", world: secret, seconds: 2,
		attack: trickle(2000, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", letters),
		must:   some("closed")},
	{name: "TLS: handshakes as fast as can be", world: secret, attack: connects(true),
		must: atLeast(50, "connections")},
	{name: "TLS: rapid reset", world: secret, attack: rapidReset, must: rapidResetMust},
}

func nothing() byte { return 0 }

func letters() byte { return 'a' }

// watchEnd notices that a connection is closed, and what was said before.
func (a *attacker) watchEnd(conn net.Conn) {
	go func() {
		line, err := bufio.NewReader(conn).ReadString('\n')
		if strings.HasPrefix(line, "HTTP/1.1 ") && a.goesOn() {
			a.note("status " + strings.Fields(line)[1])
		}
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
		if a.goesOn() {
			a.note("closed")
		}
		_ = conn.Close()
	}()
}

// connects to where clients go, and counts that; nil if it is refused.
func (a *attacker) connects() net.Conn {
	conn, err := dial(a.Client)
	if err != nil {
		a.note("connection refused")
		return nil
	}
	a.note("connections")
	return conn
}

// idle has so many connections that say one thing, or nothing, for ever.
func idle(size int, says string) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		for range size {
			conn := a.connects()
			if conn == nil {
				continue
			}
			_, _ = conn.Write([]byte(says))
			a.watchEnd(conn)
		}
		a.lingers()
	}
}

// trickle has so many connections that begin well and go on a byte at a time.
func trickle(size int, begin string, next func() byte) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		var conns []net.Conn
		for range size {
			conn := a.connects()
			if conn == nil {
				continue
			}
			said := begin
			if next() == 0 {
				// What is to be said is all in the beginning.
				said = begin[:1]
			}
			_, err := conn.Write([]byte(said))
			if err == nil {
				conns = append(conns, conn)
				a.watchEnd(conn)
			}
		}
		for said := 1; a.goesOn(); said++ {
			for _, conn := range conns {
				one := []byte{next()}
				if one[0] == 0 && said < len(begin) {
					one[0] = begin[said]
				}
				if one[0] != 0 {
					_, _ = conn.Write(one)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// torrent says one thing and then the same letter for ever, as fast as it is taken.
func torrent(size int, begin string) func(*attacker) {
	more := []byte(strings.Repeat("a", bufferBytes))
	return pouring(size, begin, func(int) []byte { return more })
}

// headersWithoutEnd has one header after the other.
func headersWithoutEnd(a *attacker) {
	pouring(16, "GET /health HTTP/1.1\r\nHost: x\r\n", func(count int) []byte {
		var lines strings.Builder
		for one := range 100 {
			fmt.Fprintf(&lines, "A%d-%d: b\r\n", count, one)
		}
		return []byte(lines.String())
	})(a)
}

func pouring(size int, begin string, more func(int) []byte) func(*attacker) {
	return func(a *attacker) {
		a.begins()
		a.crowd(size, func(int) {
			conn, err := dial(a.Client)
			if err != nil {
				a.note("connection refused")
				time.Sleep(paceAfterClose)
				return
			}
			defer conn.Close()
			a.note("connections")
			a.watchEnd(conn)
			_, err = conn.Write([]byte(begin))
			for count := 0; err == nil && a.goesOn(); count++ {
				_ = conn.SetWriteDeadline(time.Now().Add(patience))
				_, err = conn.Write(more(count))
			}
			time.Sleep(paceAfterClose)
		})
	}
}

// pipelined asks one thing after the other and never reads an answer.
func pipelined(a *attacker) {
	ask := []byte(strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 100))
	a.begins()
	a.crowd(64, func(int) {
		conn, err := dial(a.Client)
		if err != nil {
			time.Sleep(paceAfterClose)
			return
		}
		defer conn.Close()
		a.note("connections")
		for a.goesOn() {
			_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := conn.Write(ask); err != nil {
				// The server takes no more questions, for there is no room for answers.
				a.note("stuck")
				a.lingers()
				return
			}
		}
	})
}

// connects opens and closes as fast as can be, with or without a handshake.
func connects(shakes bool) func(*attacker) {
	return func(a *attacker) {
		secrecy := a.secrecy()
		a.begins()
		a.crowd(64, func(int) {
			conn, err := dial(a.Client)
			if err != nil {
				a.note("connection refused")
				time.Sleep(paceAfterClose)
				return
			}
			if shakes {
				conn, err = shakeHands(conn, secrecy)
			}
			if err != nil {
				a.note("handshake failed")
			} else {
				a.note("connections")
			}
			_ = conn.Close()
		})
	}
}

// metricsTrickle takes what places the metrics listener has; probes come there beside it.
func metricsTrickle(a *attacker) {
	a.Client = a.Metrics
	trickle(500, "GET /metrics HTTP/1.1\r\nHost: x\r\nA: ", letters)(a)
}
