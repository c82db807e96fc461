package mixed

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// One cluster goes through all of it, each kind leading in its turn, and ends with equal rows.
func TestMixedCluster(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := Start(t)
	etcd, ours := c.Members[0], c.Members[1]
	for _, leader := range []*Member{etcd, ours} {
		follower := ours
		if leader == ours {
			follower = etcd
		}
		run := func(what string, step func(t *testing.T, c *Cluster, follower *Member)) {
			if t.Failed() {
				return
			}
			t.Run(fmt.Sprintf("%s under %s", what, leader.Kind()), func(t *testing.T) {
				here := &Cluster{Members: c.Members, t: t}
				here.Lead(leader)
				step(t, here, follower)
				c.Members = here.Members
			})
		}
		run("writes", writes)
		run("watches", watches)
		// etcd lets go of no log for half a minute after it has sent a snapshot, and takes nobody in
		// for five seconds after a member came back.
		run("laggard", laggard)
		run("leases", leases)
		run("members", members)
		run("kill", kill)
		run("equality", equality)
	}
}

// What is written through any member is read through every other.
func writes(t *testing.T, c *Cluster, _ *Member) {
	ctx := harness.Context(t)
	for i, writer := range c.Members {
		key := fmt.Sprintf("writes/%d", i)
		put, err := writer.Put(ctx, key, writer.Kind())
		if err != nil {
			t.Fatalf("%s: %v", writer.Options.Name, err)
		}
		guarded, err := writer.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", put.Header.Revision)).
			Then(clientv3.OpPut(key, "second"), clientv3.OpDelete("gone")).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil || !guarded.Succeeded {
			t.Fatalf("%s: %v, %v", writer.Options.Name, guarded, err)
		}
		for _, reader := range c.Members {
			got, err := reader.Get(ctx, key)
			if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "second" ||
				got.Kvs[0].ModRevision != guarded.Header.Revision {
				t.Errorf("%s through %s: %v, %v", key, reader.Options.Name, got, err)
			}
		}
	}
}

// Watchers at all members hear the same, whoever is written to.
func watches(t *testing.T, c *Cluster, _ *Member) {
	ctx := harness.Context(t)
	const each = 30
	head, err := c.Members[0].Get(ctx, "watched")
	if err != nil {
		t.Fatal(err)
	}
	var heard []clientv3.WatchChan
	for _, member := range c.Members {
		heard = append(heard, member.Watch(ctx, "watched/", clientv3.WithPrefix(),
			clientv3.WithRev(head.Header.Revision+1)))
	}
	var writers sync.WaitGroup
	for i, writer := range c.Members {
		writers.Go(func() {
			for n := range each {
				if _, err := writer.Put(ctx, fmt.Sprintf("watched/%d", i), fmt.Sprint(n)); err != nil {
					t.Errorf("%s: %v", writer.Options.Name, err)
				}
			}
		})
	}
	writers.Wait()
	var first []string
	for i, events := range heard {
		var told []string
		for len(told) < each*len(c.Members) && !t.Failed() {
			for _, event := range harness.Hear(t, events).Events {
				told = append(told, harness.ShowEvent(event))
			}
		}
		if i == 0 {
			first = told
		} else if strings.Join(told, "\n") != strings.Join(first, "\n") {
			t.Errorf("%s tells another story than %s", c.Members[i].Options.Name,
				c.Members[0].Options.Name)
		}
	}
}

// A lease lives as long as a follower of the other kind renews it, and not much longer.
func leases(t *testing.T, c *Cluster, follower *Member) {
	ctx := harness.Context(t)
	const ttl = 2
	lease, err := follower.Grant(ctx, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Put(ctx, "leased", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 3*ttl*time.Second/2; time.Sleep(ttl * time.Second / 5) {
		renewed, err := follower.KeepAliveOnce(ctx, lease.ID)
		if err != nil || renewed.TTL != ttl {
			t.Fatalf("keepalive: %v, %v", renewed, err)
		}
	}
	for _, member := range c.Members {
		left, err := member.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
		if err != nil || left.TTL < 0 || left.GrantedTTL != ttl || len(left.Keys) != 1 {
			t.Errorf("time to live through %s: %+v, %v", member.Options.Name, left, err)
		}
	}
	for _, member := range c.Members {
		harness.Eventually(t, harness.Patience, func() string {
			got, err := member.Get(ctx, "leased", clientv3.WithCountOnly())
			if err != nil || got.Count != 0 {
				return fmt.Sprintf("%s: %v, %v", member.Options.Name, got, err)
			}
			return ""
		})
	}
}

// A follower that was away for longer than the log reaches back gets the state of the other kind.
func laggard(t *testing.T, c *Cluster, follower *Member) {
	ctx := harness.Context(t)
	follower.Kill()
	leader := c.Leader()
	var writers sync.WaitGroup
	for w := range 10 {
		writers.Go(func() {
			for n := range beyond / 10 {
				key := fmt.Sprintf("missed/%d", (w+n)%100)
				if _, err := leader.Put(ctx, key, fmt.Sprint(n)); err != nil {
					t.Errorf("%s: %v", leader.Options.Name, err)
					return
				}
			}
		})
	}
	writers.Wait()
	compacted(t, leader)
	if err := follower.Run(); err != nil {
		t.Fatal(err)
	}
	sameRows(t, leader, follower)
	if follower.Snapshots(t) < 1 {
		t.Errorf("%s caught up without a snapshot: the log was long enough", follower.Options.Name)
	}
}

// compacted waits until a log has let go what it may. etcd's does so while it applies; ours when
// the state is on the disk, half a second later at most, and again with what is written then.
func compacted(t *testing.T, leader *Member) {
	t.Helper()
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		if _, err := leader.Put(harness.Context(t), "missed/end", ""); err != nil {
			t.Fatal(err)
		}
	}
}

// The leader is killed right after it has acknowledged a write: the others, one of each kind or
// both of one, go on with it, and the leader finds its way back.
func kill(t *testing.T, c *Cluster, follower *Member) {
	leader := c.Leader()
	if _, err := leader.Put(harness.Context(t), "killed/before", leader.Kind()); err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	begin := time.Now()
	ask(t, "put", func(ctx context.Context) error {
		// etcd's followers lose what they have forwarded to a leader that died.
		ctx, cancel := context.WithTimeout(ctx, time.Second/2)
		defer cancel()
		_, err := follower.Put(ctx, "killed/after", follower.Kind())
		return err
	})
	t.Logf("%s killed, %s wrote after %v", leader.Kind(), follower.Kind(),
		time.Since(begin).Round(time.Millisecond))
	got, err := follower.Get(harness.Context(t), "killed/before")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != leader.Kind() {
		t.Errorf("acknowledged, and then: %v, %v", got, err)
	}
	if err := leader.Run(); err != nil {
		t.Fatal(err)
	}
	sameRows(t, follower, leader)
}

// A learner of the follower's kind is added, promoted and removed through that follower, while
// the other kind leads.
func members(t *testing.T, c *Cluster, follower *Member) {
	learner := c.prepare(fmt.Sprintf("n-%s", follower.Kind()), follower.Program)
	learner.Options.Joins = true
	names := []string{learner.Options.Name + "=" + learner.Options.PeerURL}
	for _, one := range c.Members {
		names = append(names, one.Options.Name+"="+one.Options.PeerURL)
	}
	learner.Options.InitialCluster = strings.Join(names, ",")
	ask(t, "add", func(ctx context.Context) error {
		_, err := follower.MemberAddAsLearner(ctx, []string{learner.Options.PeerURL})
		return err
	})
	if err := learner.Spawn(); err != nil {
		t.Fatal(err)
	}
	var id uint64
	ask(t, "promote", func(ctx context.Context) error {
		list, err := follower.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, one := range list.Members {
			if one.PeerURLs[0] == learner.Options.PeerURL {
				id = one.ID
			}
		}
		_, err = follower.MemberPromote(ctx, id)
		return err
	})
	if err := learner.WaitReady(); err != nil {
		t.Fatal(err)
	}
	if _, err := learner.Put(harness.Context(t), "members/"+learner.Kind(), "voter"); err != nil {
		t.Fatal(err)
	}
	sameRows(t, follower, learner)
	ask(t, "remove", func(ctx context.Context) error {
		_, err := follower.MemberRemove(ctx, id)
		return err
	})
	harness.Eventually(t, harness.Patience, func() string {
		if learner.Running() {
			return "a removed member runs"
		}
		return ""
	})
}

// All members hold the same, before a compaction and after, and none accuses another: the leader
// asks the others for the hashes of their rows each second.
func equality(t *testing.T, c *Cluster, follower *Member) {
	ctx := harness.Context(t)
	sameRows(t, c.Members...)
	put, err := follower.Put(ctx, "end", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = follower.Compact(ctx, put.Header.Revision-5, clientv3.WithCompactPhysical())
	if err != nil {
		t.Fatal(err)
	}
	sameRows(t, c.Members...)
	time.Sleep(2 * time.Second)
	alarms, err := follower.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) != 0 {
		t.Errorf("alarms: %v, %v", alarms, err)
	}
}

// sameRows waits until members have come as far as the first one, and compares their hashes.
func sameRows(t *testing.T, members ...*Member) {
	t.Helper()
	ctx := harness.Context(t)
	head, err := members[0].Get(ctx, "none")
	if err != nil {
		t.Fatal(err)
	}
	told, want := "", uint32(0)
	for i, member := range members {
		// A linearizable read says that a member has come as far.
		if _, err := member.Get(ctx, "none"); err != nil {
			t.Fatalf("%s: %v", member.Options.Name, err)
		}
		hash, err := member.HashKV(ctx, member.Endpoint(), head.Header.Revision)
		if err != nil {
			t.Fatalf("%s: %v", member.Options.Name, err)
		}
		told += fmt.Sprintf(" %s %08x", member.Options.Name, hash.Hash)
		if i == 0 {
			want = hash.Hash
		} else if hash.Hash != want {
			t.Errorf("rows differ at revision %d:%s", head.Header.Revision, told)
		}
	}
	t.Logf("revision %d:%s", head.Header.Revision, told)
}
