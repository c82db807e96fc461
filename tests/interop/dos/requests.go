package dos

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// requestRows are requests that are too much, one by one or together.
var requestRows = []row{
	{name: "put of 2 MiB", world: plain, attack: bigPuts(8, 2<<20), must: allRefused},
	{name: "put of 100 MiB", world: plain, attack: bigPuts(2, 100<<20), seconds: 2,
		must: allRefused},
	{name: "put that unpacks to 64 MiB", world: plain, attack: packedPuts, must: allRefused},
	{name: "proposals flood", world: plain, attack: putFlood, must: atLeast(1000, "answered")},
	{name: "txn of 128 txns of 128 puts", world: plain, attack: nestedTxns(128, 128),
		must: allRefused},
	{name: "txns of 11 txns of 10 puts", world: plain, attack: nestedTxns(11, 10),
		must: atLeast(20, "answered")},
	{name: "txn nested 5000 deep", world: plain, attack: deepTxns, must: allRefused},
	{name: "compaction under load", world: plain, attack: compactions,
		must: both(some("compacted"), atLeast(1000, "answered"))},
	{name: "JSON bomb on every path", world: plain, attack: jsonBombs,
		must: some("status", "cut off")},
	{name: "metrics asked for at once", world: plain, attack: scrapes, must: some("status 200")},
	{name: "Authenticate flood (bcrypt)", world: plain, attack: authenticates, part: "auth",
		must: some("refused")},
}

// connect is a gRPC connection without clientv3's own checks and retries.
func (a *attacker) connect() *grpc.ClientConn {
	secrecy := insecure.NewCredentials()
	if config := a.secrecy(); config != nil {
		secrecy = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+a.Client,
		grpc.WithTransportCredentials(secrecy),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		a.fails(err)
	}
	return conn
}

// outcome counts how a request ended, unless the attack is over.
func (a *attacker) outcome(err error) {
	switch code := status.Code(err); {
	case !a.goesOn():
	case err == nil:
		a.note("answered")
	case code == codes.Unavailable:
		a.note("cut off")
		time.Sleep(paceAfterClose)
	default:
		a.note("refused " + code.String())
	}
}

func bigPuts(size, bytes int) func(*attacker) {
	return func(a *attacker) {
		value := make([]byte, bytes)
		a.begins()
		a.crowd(size, func(int) {
			conn := a.connect()
			defer conn.Close()
			for a.goesOn() {
				_, err := pb.NewKVClient(conn).Put(a.ctx,
					&pb.PutRequest{Key: []byte("big"), Value: value})
				a.outcome(err)
			}
		})
	}
}

// packedPuts sends little that becomes much.
func packedPuts(a *attacker) {
	body, err := proto.Marshal(&pb.PutRequest{Key: []byte("bomb"), Value: make([]byte, 64<<20)})
	if err != nil {
		a.fails(err)
	}
	var bomb packed
	packer, _ := gzip.NewWriterLevel(&bomb.bytes, gzip.BestSpeed)
	_, _ = packer.Write(body)
	_ = packer.Close()
	encoding.RegisterCompressor(&bomb)
	a.begins()
	a.crowd(8, func(int) {
		conn := a.connect()
		defer conn.Close()
		for a.goesOn() {
			_, err := pb.NewKVClient(conn).Put(a.ctx, &pb.PutRequest{Key: []byte("replaced")},
				grpc.UseCompressor("gzip"))
			a.outcome(err)
		}
	})
}

// packed stands for what every message is packed to.
type packed struct{ bytes bytes.Buffer }

func (p *packed) Name() string { return "gzip" }

func (p *packed) Compress(w io.Writer) (io.WriteCloser, error) { return &unheard{p, w}, nil }

func (p *packed) Decompress(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

// unheard takes a message and writes what is packed instead.
type unheard struct {
	packed *packed
	to     io.Writer
}

func (u *unheard) Write(bytes []byte) (int, error) { return len(bytes), nil }

func (u *unheard) Close() error {
	_, err := u.to.Write(u.packed.bytes.Bytes())
	return err
}

// putFlood has more proposals under way than any queue takes.
func putFlood(a *attacker) {
	const connections, each = 8, 512
	value := make([]byte, 512)
	a.begins()
	a.each(connections, func(number int) {
		conn := a.connect()
		defer conn.Close()
		a.crowd(each, func(one int) {
			key := fmt.Appendf(nil, "flood/%d/%d", number, one)
			_, err := pb.NewKVClient(conn).Put(a.ctx, &pb.PutRequest{Key: key, Value: value})
			a.outcome(err)
		})
	})
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("v")}}}
}

func txnOp(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

// nestedTxns puts many keys at once, in so many transactions within one, as often as it can.
func nestedTxns(txns, puts int) func(*attacker) {
	return func(a *attacker) {
		outer := &pb.TxnRequest{}
		for one := range txns {
			inner := &pb.TxnRequest{}
			for two := range puts {
				inner.Success = append(inner.Success, putOp(fmt.Sprintf("nested/%d/%d", one, two)))
			}
			outer.Success = append(outer.Success, txnOp(inner))
		}
		a.transact(outer)
	}
}

// deepTxns nests without end.
func deepTxns(a *attacker) {
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{putOp("deep")}}
	for range 5000 {
		txn = &pb.TxnRequest{Success: []*pb.RequestOp{txnOp(txn)}}
	}
	a.transact(txn)
}

func (a *attacker) transact(txn *pb.TxnRequest) {
	a.begins()
	a.crowd(8, func(int) {
		conn := a.connect()
		defer conn.Close()
		for a.goesOn() {
			_, err := pb.NewKVClient(conn).Txn(a.ctx, txn)
			a.outcome(err)
		}
	})
}

// compactions compacts what is being written.
func compactions(a *attacker) {
	conn := a.connect()
	kv := pb.NewKVClient(conn)
	a.begins()
	go a.crowd(1, func(int) {
		time.Sleep(200 * time.Millisecond)
		response, err := kv.Range(a.ctx, &pb.RangeRequest{Key: []byte("x")})
		if err == nil {
			_, err = kv.Compact(a.ctx, &pb.CompactionRequest{Revision: response.Header.Revision})
		}
		if err == nil {
			a.note("compacted")
		}
	})
	value := make([]byte, 256)
	a.crowd(64, func(number int) {
		for one := 0; a.goesOn(); one++ {
			key := fmt.Appendf(nil, "compacted/%d/%d", number, one%100)
			_, err := kv.Put(a.ctx, &pb.PutRequest{Key: key, Value: value})
			a.outcome(err)
		}
	})
}

// paths are all that a client's listener may answer over plain HTTP.
var paths = []string{"/health", "/metrics", "/version", "/livez", "/readyz", "/v3/kv/range",
	"/v3/kv/put", "/v3/kv/txn", "/v3/watch", "/v3/lease/grant", "/debug/vars", "/config/local/log"}

// jsonBombs posts brackets without end, and numbers, and keys.
func jsonBombs(a *attacker) {
	bombs := []string{strings.Repeat("[", 4<<20), strings.Repeat(`{"a":`, 1<<20),
		`{"key":` + strings.Repeat("9", 4<<20), `{` + strings.Repeat(`"k":0,`, 1<<20)}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		Timeout: patience}
	a.begins()
	a.crowd(16, func(number int) {
		for one := number; a.goesOn(); one++ {
			// No length, so that no server can refuse by it.
			body := io.MultiReader(strings.NewReader(bombs[one%len(bombs)]))
			a.visit(client, "POST", "http://"+a.Client+paths[one%len(paths)], body)
		}
	})
}

// answered is the answer to a request; nil, after a pause, if it was cut off.
func (a *attacker) answered(client *http.Client, request *http.Request) *http.Response {
	response, err := client.Do(request)
	if err == nil {
		return response
	}
	if a.goesOn() {
		a.note("cut off")
		time.Sleep(paceAfterClose)
	}
	return nil
}

// visit asks over plain HTTP and counts the status.
func (a *attacker) visit(client *http.Client, method, url string, body io.Reader) {
	request, err := http.NewRequestWithContext(a.ctx, method, url, body)
	if err != nil {
		a.fails(err)
	}
	response := a.answered(client, request)
	if response == nil {
		return
	}
	count, _ := io.Copy(io.Discard, response.Body)
	response.Body.Close()
	a.note(fmt.Sprintf("status %d", response.StatusCode))
	a.add("bytes heard", count)
}

// scrapes asks for all metrics, on both listeners.
func scrapes(a *attacker) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: patience}
	a.begins()
	a.crowd(32, func(number int) {
		address := a.Client
		if number%2 == 1 {
			address = a.Metrics
		}
		body := io.MultiReader(strings.NewReader(strings.Repeat("[", 1<<16)))
		a.visit(client, "GET", "http://"+address+"/metrics", body)
	})
}

// authenticates asks for a token with a wrong password.
func authenticates(a *attacker) {
	conn := a.connect()
	a.begins()
	a.crowd(64, func(int) {
		ctx, cancel := context.WithTimeout(a.ctx, patience)
		defer cancel()
		_, err := pb.NewAuthClient(conn).Authenticate(ctx,
			&pb.AuthenticateRequest{Name: "root", Password: "wrong"})
		a.outcome(err)
	})
}
