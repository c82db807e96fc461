package rig

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// Ask retries a change until it is done: a cluster that is not well refuses it.
func (l *Load) Ask(what string, change func(ctx context.Context) error) {
	l.t.Helper()
	harness.Eventually(l.t, time.Minute, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		if err := change(ctx); err != nil {
			return what + ": " + err.Error()
		}
		return ""
	})
}

// find looks a member up, by its address: its name it tells later. Nil if there is none.
func find(ctx context.Context, client *clientv3.Client, member *Member) (*pb.Member, error) {
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range list.Members {
		if slices.Contains(one.PeerURLs, member.Options.PeerURL) {
			return one, nil
		}
	}
	return nil, nil
}

// Remove takes a member out; if it runs it must end by itself.
func (l *Load) Remove(member *Member) {
	l.t.Helper()
	c := l.cluster
	c.Members = c.Others(member)
	l.Follow()
	client := c.Client(c.Endpoints()...)
	l.Ask("remove", func(ctx context.Context) error {
		one, err := find(ctx, client, member)
		if err != nil || one == nil {
			return err
		}
		_, err = client.MemberRemove(ctx, one.ID)
		return err
	})
	harness.Eventually(l.t, harness.Patience, func() string {
		if member.Running() {
			return "a removed member runs"
		}
		return ""
	})
}

// Add makes a new member, as a learner at first if wanted, and waits until it serves.
func (l *Load) Add(learner bool) *Member {
	l.t.Helper()
	c := l.cluster
	member := c.prepare()
	member.Options.Joins = true
	names := []string{member.Options.Name + "=" + member.Options.PeerURL}
	for _, one := range c.Members {
		names = append(names, one.Options.Name+"="+one.Options.PeerURL)
	}
	member.Options.InitialCluster = strings.Join(names, ",")
	client := c.Client(c.Endpoints()...)
	urls := []string{member.Options.PeerURL}
	known := false
	l.Ask("add", func(ctx context.Context) error {
		if list, err := client.MemberList(ctx); err == nil {
			for _, one := range list.Members {
				known = known || one.PeerURLs[0] == urls[0]
			}
		}
		if known {
			return nil
		}
		if learner {
			_, err := client.MemberAddAsLearner(ctx, urls)
			return err
		}
		_, err := client.MemberAdd(ctx, urls)
		return err
	})
	if err := member.Spawn(); err != nil {
		l.t.Fatal(err)
	}
	if learner {
		l.Ask("promote", func(ctx context.Context) error {
			one, err := find(ctx, client, member)
			if err != nil || one != nil && !one.IsLearner {
				return err
			}
			// Before it has told its name it is not there, and refused as such.
			_, err = client.MemberPromote(ctx, one.GetID())
			return err
		})
	}
	if err := member.WaitReady(); err != nil {
		l.t.Fatal(err)
	}
	c.Members = append(c.Members, member)
	l.Follow()
	return member
}

// FillValue is how large the values are that fill a store.
const FillValue = 64 << 10

// Fill puts so many large values, a few at a time.
func (l *Load) Fill(endpoints []string, count int) {
	l.t.Helper()
	const fillers = 4
	client, filler := l.cluster.Client(endpoints...), strings.Repeat("x", FillValue)
	var group sync.WaitGroup
	for number := range fillers {
		w := l.Worker(2000+number, client)
		group.Go(func() {
			for i := number; i < count; i += fillers {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				err := w.Put(ctx, fmt.Sprintf("fill/%06d", i), w.Value()+" "+filler)
				cancel()
				if err != nil {
					l.t.Errorf("while the store grows: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
}
