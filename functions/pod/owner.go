package pod

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// mostShown is the size up to which a function's code is shown, bytes: a ConfigMap holds
// no more than a megabyte.
const mostShown = 128 << 10

// own makes the ConfigMap of f, which owns its pods, and shows people what runs. All
// nodes share it; so each makes it anew before it makes a pod.
func (s *Sandbox) own(ctx context.Context, f functions.Function) (kube.Owner, error) {
	m := f.Manifest
	if len(m.Spec.Source.Inline) > mostShown {
		m.Spec.Source.Inline = ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		return kube.Owner{}, err
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return kube.Owner{}, fmt.Errorf("show manifest: %w", err)
	}
	labels := map[string]string{labelName: f.Name(), labelManaged: managed, labelFunction: f.Name()}
	return s.apply(ctx, f.Name(), labels, map[string]string{"function.yaml": string(text), "revision": string(f.Revision)})
}

// ownPool makes the ConfigMap that owns the node's pool pods. Its name has a dot, as
// no function's has.
func (s *Sandbox) ownPool(ctx context.Context) (kube.Owner, error) {
	labels := map[string]string{labelName: "pool", labelManaged: managed, labelNode: labelValue(s.cfg.Node)}
	return s.apply(ctx, "pool."+s.cfg.Node, labels, map[string]string{"node": s.cfg.Node})
}

func (s *Sandbox) apply(ctx context.Context, name string, labels, data map[string]string) (kube.Owner, error) {
	m, err := s.maps.Apply(ctx, &kube.ConfigMap{Metadata: kube.Meta{Name: name, Labels: labels}, Data: data})
	if err != nil {
		return kube.Owner{}, err
	}
	return kube.ConfigMaps.OwnedBy(m.Metadata), nil
}

// label makes the pod of the pool, from which i's function has answered, the
// function's own. It goes on trying while the server is away.
func (i *instance) label() {
	for {
		err := i.relabel(i.s.life)
		if err == nil || !kube.Away(err) {
			if err != nil && i.s.life.Err() == nil {
				i.s.log.Warn("pod could not be labelled", "pod", i.name, "err", err)
			}
			return
		}
		select {
		case <-time.After(10 * time.Second):
		case <-i.gone:
			return
		case <-i.s.life.Done():
			return
		}
	}
}

func (i *instance) relabel(ctx context.Context) error {
	owner, err := i.s.own(ctx, i.f)
	if err != nil {
		return err
	}
	labels := map[string]any{labelPool: nil}
	for k, v := range functionLabels(i.f) {
		labels[k] = v
	}
	i.s.mu.Lock()
	uid := i.r.pod.Metadata.UID
	i.s.mu.Unlock()
	_, err = i.s.pods.Patch(ctx, i.name, map[string]any{"metadata": map[string]any{
		"uid":             uid,
		"labels":          labels,
		"annotations":     functionAnnotations(i.f),
		"ownerReferences": []kube.Owner{owner},
	}}, "")
	return err
}
