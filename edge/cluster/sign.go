package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
)

// Namespace is where the agents are, and their leases.
const Namespace = "sedge-system"

// LeaderLease is the name of the lease in [Namespace] whose holder runs what is to run
// once for the cluster.
const LeaderLease = "cluster"

// A node's sign of life is a Lease node-NAME in [Namespace], with these
// annotations:
//
//	sedge.dev/sandboxes  pod,process
//	sedge.dev/version    of the agent
//	sedge.dev/memory     of the machine, a Kubernetes quantity, if known
//	sedge.dev/functions  how many the node has
//	sedge.dev/labels     the node's labels, a JSON object
const (
	leasePrefix         = "node-"
	sandboxesAnnotation = "sedge.dev/sandboxes"
	versionAnnotation   = "sedge.dev/version"
	memoryAnnotation    = "sedge.dev/memory"
	functionsAnnotation = "sedge.dev/functions"
	labelsAnnotation    = "sedge.dev/labels"
)

var (
	leaseLabels   = map[string]string{"app.kubernetes.io/part-of": "sedge", "app.kubernetes.io/component": "node"}
	leaseSelector = kube.Selector{Labels: "app.kubernetes.io/part-of=sedge,app.kubernetes.io/component=node"}
)

// How often a node gives a sign of life, and how long one holds.
const (
	signEvery = 20 * time.Second
	signHolds = 90 * time.Second
)

// A sign is what a node knows once it has given one.
type sign struct {
	labels  map[string]string // of the node
	members []Member
}

// A signer gives a node's signs of life and sees those of others.
type signer struct {
	cfg    NodeConfig
	leases *kube.Objects[kube.Lease]
	nodes  *kube.Objects[kube.Node]
	seen   map[string]sighting // by the lease's name
}

// A sighting is when a lease was first seen at a version, by this node's clock:
// the clocks of boards differ.
type sighting struct {
	version string
	at      time.Time
}

func newSigner(cfg NodeConfig) *signer {
	return &signer{cfg: cfg, leases: kube.Leases.In(cfg.Client, Namespace), nodes: kube.Nodes.In(cfg.Client, ""), seen: map[string]sighting{}}
}

// Run gives a sign every [signEvery] until ctx is done, and tells what it saw.
func (s *signer) Run(ctx context.Context, tell func(sign)) error {
	for {
		now, err := s.give(ctx)
		switch {
		case err == nil:
			tell(now)
		case ctx.Err() == nil:
			s.cfg.Logger.Warn("no sign of life could be given", "err", err)
		}
		select {
		case <-ctx.Done():
			s.end(context.WithoutCancel(ctx))
			return nil
		case <-time.After(signEvery):
		}
	}
}

// end takes the sign back, so that nobody waits for this node. If that cannot be
// done, the sign ends by itself.
func (s *signer) end(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	l, err := s.leases.Get(ctx, leasePrefix+s.cfg.Name)
	if err == nil {
		l.Spec.Holder = ""
		_, err = s.leases.Update(ctx, l, "")
	}
	if err != nil {
		s.cfg.Logger.Info("the node's sign of life could not be taken back", "err", err)
	}
}

func (s *signer) give(ctx context.Context) (sign, error) {
	node, err := s.nodes.Get(ctx, s.cfg.Name)
	if kube.IsNotFound(err) { // an agent that is told to go by another name
		node, err = &kube.Node{}, nil
	}
	if err != nil {
		return sign{}, err
	}
	if err := s.renew(ctx, node); err != nil {
		return sign{}, err
	}
	all, err := s.leases.List(ctx, leaseSelector)
	if err != nil {
		return sign{}, err
	}
	return sign{labels: nonNil(node.Metadata.Labels), members: s.members(all, time.Now())}, nil
}

func (s *signer) renew(ctx context.Context, node *kube.Node) error {
	name := leasePrefix + s.cfg.Name
	l, err := s.leases.Get(ctx, name)
	absent := kube.IsNotFound(err)
	if absent {
		l = &kube.Lease{Metadata: kube.Meta{Name: name}}
		if node.Metadata.UID != "" {
			l.Metadata.Owners = []kube.Owner{kube.Nodes.OwnedBy(node.Metadata)} // goes with it
		}
	} else if err != nil {
		return err
	}
	if err := s.fill(l, node); err != nil {
		return err
	}
	if absent {
		_, err = s.leases.Create(ctx, l)
	} else {
		_, err = s.leases.Update(ctx, l, "")
	}
	return err
}

func (s *signer) fill(l *kube.Lease, node *kube.Node) error {
	labels, err := json.Marshal(nonNil(node.Metadata.Labels))
	if err != nil {
		return fmt.Errorf("encode labels: %w", err)
	}
	now := &kube.MicroTime{Time: time.Now()}
	if l.Spec.Acquired == nil {
		l.Spec.Acquired = now
	}
	l.Spec.Holder, l.Spec.Renewed, l.Spec.Seconds = s.cfg.Name, now, int(signHolds/time.Second)
	l.Metadata.Labels = leaseLabels
	l.Metadata.Annotations = maps.Clone(l.Metadata.Annotations)
	if l.Metadata.Annotations == nil {
		l.Metadata.Annotations = map[string]string{}
	}
	maps.Copy(l.Metadata.Annotations, map[string]string{
		sandboxesAnnotation: strings.Join(s.cfg.Sandboxes, ","),
		versionAnnotation:   s.cfg.Version,
		memoryAnnotation:    node.Status.Capacity["memory"],
		functionsAnnotation: strconv.Itoa(len(s.cfg.Agent.Functions())),
		labelsAnnotation:    string(labels),
	})
	return nil
}

// members returns who gives signs of life.
func (s *signer) members(all []*kube.Lease, now time.Time) []Member {
	seen := make(map[string]sighting, len(all))
	list := []Member{}
	for _, l := range all {
		at, ok := s.seen[l.Metadata.Name]
		if !ok || at.version != l.Metadata.ResourceVersion {
			at = sighting{l.Metadata.ResourceVersion, now}
		}
		seen[l.Metadata.Name] = at
		list = append(list, Member{
			Node:   strings.TrimPrefix(l.Metadata.Name, leasePrefix),
			Labels: labelsIn(l),
			Fresh:  l.Spec.Holder != "" && now.Sub(at.at) < signHolds,
		})
	}
	s.seen = seen
	return list
}

// labelsIn returns the labels of the node whose lease it is; none if they cannot
// be read.
func labelsIn(l *kube.Lease) map[string]string {
	labels := map[string]string{}
	if json.Unmarshal([]byte(l.Metadata.Annotations[labelsAnnotation]), &labels) != nil {
		return map[string]string{}
	}
	return labels
}
