package dos

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// peerRows are what comes to the port for other members, without a certificate asked for.
var peerRows = []row{
	{name: "peer: 64 MiB posted to /raft", world: plain, attack: peerPosts("/raft", 63<<20, 0),
		must: both(some("status 4", "cut off", "under way"), never("status 2"))},
	{name: "peer: /raft bodies that stop short", world: plain,
		attack: peerPosts("/raft", 32<<20, time.Hour), must: some("status 4", "cut off", "under way")},
	{name: "peer: bodies without end on /raft", world: plain, attack: peerPosts("/raft", 1<<40, 0),
		must: both(some("status 4", "cut off"), never("status 2"))},
	{name: "peer: bodies without end elsewhere", world: plain, attack: peerBodies,
		must: some("status 4", "cut off")},
	{name: "peer: snapshot without end", world: plain, attack: peerPosts("/raft/snapshot", 1<<40, 0),
		must: both(some("status 4", "status 5", "cut off"), never("status 2"))},
	{name: "peer: 2000 silent", world: plain, attack: peerSilent, seconds: 2,
		must: atLeast(500, "connections")},
	{name: "peer: states that nobody takes", world: plain, attack: peerStates,
		must: some("connections")},
}

// peerPaths are what the peer listener answers beside raft.
var peerPaths = []string{"/leases", "/leases/internal", "/members", "/members/promote/1",
	"/members/hashkv", "/version", "/downgrade/enabled", "/kvorum/state", "/kvorum/promises",
	"/kvorum/replace", "/raft/probing", "/raft/stream/message/1", "/raft/stream/msgapp/1"}

// zeros is a body of so many bytes, which pauses before its last.
type zeros struct {
	left  int64
	pause time.Duration
	ended <-chan struct{}
}

func (z *zeros) Read(into []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	size := min(int64(len(into)), z.left)
	if z.left -= size; z.left == 0 && z.pause > 0 {
		select {
		case <-z.ended:
		case <-time.After(z.pause):
		}
	}
	clear(into[:size])
	return int(size), nil
}

// cluster asks the peer listener for the cluster's id, as anybody may.
func (a *attacker) cluster() string {
	response, err := http.Get("http://" + a.Peer + "/members")
	if err != nil {
		a.fails(err)
	}
	defer response.Body.Close()
	return response.Header.Get("X-Etcd-Cluster-Id")
}

// peerPosts posts in the name of a member, 64 at once.
func peerPosts(path string, size int64, pause time.Duration) func(*attacker) {
	return func(a *attacker) {
		cluster := a.cluster()
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		a.begins()
		a.crowd(64, func(int) {
			a.note("under way")
			body := &zeros{size, pause, a.ctx.Done()}
			a.post(client, path, cluster, io.NopCloser(body), size)
		})
	}
}

func (a *attacker) post(client *http.Client, path, cluster string, body io.Reader, size int64) {
	request, err := http.NewRequestWithContext(a.ctx, "POST", "http://"+a.Peer+path, body)
	if err != nil {
		a.fails(err)
	}
	request.ContentLength = size
	request.Header.Set("X-Etcd-Cluster-ID", cluster)
	request.Header.Set("X-Server-From", "1")
	request.Header.Set("X-Server-Version", "3.7.0")
	request.Header.Set("X-Min-Cluster-Version", "3.0.0")
	response := a.answered(client, request)
	if response == nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	response.Body.Close()
	a.note(fmt.Sprintf("status %d", response.StatusCode))
}

// peerBodies posts without end to all other paths.
func peerBodies(a *attacker) {
	cluster := a.cluster()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	a.begins()
	a.crowd(4*len(peerPaths), func(number int) {
		body := io.NopCloser(&zeros{1 << 40, 0, a.ctx.Done()})
		a.post(client, peerPaths[number%len(peerPaths)], cluster, body, -1)
	})
}

// peerSilent takes what places there are.
func peerSilent(a *attacker) {
	a.Client = a.Peer
	idle(2000, "")(a)
}

// peerStates asks for the whole state and takes nothing.
func peerStates(a *attacker) {
	cluster := a.cluster()
	a.begins()
	var held []net.Conn
	for range 200 {
		conn, err := dial(a.Peer)
		if err != nil {
			a.note("connection refused")
			continue
		}
		held = append(held, conn)
		_, _ = io.Copy(conn, strings.NewReader("GET /kvorum/state HTTP/1.1\r\nHost: x\r\n"+
			"X-Etcd-Cluster-ID: "+cluster+"\r\n\r\n"))
		a.note("connections")
	}
	a.lingers()
	_ = held
}
