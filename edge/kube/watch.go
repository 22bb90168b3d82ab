package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// A Change is one thing that a [Watch] saw.
type Change[T any] struct {
	Key string // namespace/name, or name
	Old *T     // nil: it is new
	Now *T     // nil: it is gone
}

// A Watch keeps a copy of the objects that a selector picks: first the whole, then
// the changes. While the server is away the copy stays as it was. Its methods may be
// called from several goroutines; what they return is shared and must not be changed.
type Watch[T any] struct {
	objects *Objects[T]
	sel     Selector
	seen    func(Change[T])
	synced  chan struct{} // closed once the whole is there

	mu    sync.Mutex
	items map[string]*T // by key; guarded by mu
	full  bool          // synced is closed; guarded by mu
	err   error         // why the server could not be asked lately, or nil; guarded by mu
}

// Watch returns a watch of what sel picks, which Run runs. seen, if not nil, is told
// every change, one after another, on Run's goroutine; the copy has it by then.
func (o *Objects[T]) Watch(sel Selector, seen func(Change[T])) *Watch[T] {
	if seen == nil {
		seen = func(Change[T]) {}
	}
	return &Watch[T]{objects: o, sel: sel, seen: seen, synced: make(chan struct{}), items: map[string]*T{}}
}

// Run watches until ctx is done, and returns nil then. That the server is away is no
// error: Run goes on trying, every 10 to 20 s at the last.
func (w *Watch[T]) Run(ctx context.Context) error {
	expected := &unstructured.Unstructured{}
	expected.SetAPIVersion(w.objects.kind.apiVersion())
	expected.SetKind(w.objects.kind.Name)
	lw := &cache.ListWatch{ListWithContextFunc: w.list, WatchFuncWithContext: w.watch}
	r := cache.NewReflectorWithOptions(lw, expected, (*mirror[T])(w), cache.ReflectorOptions{
		Name:    w.objects.kind.Plural,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 10 * time.Second, Steps: 20},
	})
	r.RunWithContext(ctx)
	return nil
}

// Synced is closed once the copy is whole.
func (w *Watch[T]) Synced() <-chan struct{} { return w.synced }

// Err returns why the copy may be behind, or nil.
func (w *Watch[T]) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Get returns the copy of the object at namespace/name, or nil.
func (w *Watch[T]) Get(key string) *T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.items[key]
}

// List returns copies of all, in no order.
func (w *Watch[T]) List() []*T {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*T, 0, len(w.items))
	for _, t := range w.items {
		all = append(all, t)
	}
	return all
}

func (w *Watch[T]) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	opts.LabelSelector, opts.FieldSelector = w.sel.Labels, w.sel.Fields
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	all, err := w.objects.api.List(ctx, opts)
	if w.note("list", err) != nil {
		return nil, err
	}
	return all, nil
}

func (w *Watch[T]) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector, opts.FieldSelector = w.sel.Labels, w.sel.Fields
	stream, err := w.objects.api.Watch(ctx, opts)
	if opts.SendInitialEvents != nil && IsInvalid(err) {
		return nil, err // an older server: it is asked for a list next
	}
	if w.note("watch", err) != nil {
		return nil, err
	}
	return stream, nil
}

// note remembers whether the server answered. A client is not told of a refused
// stream that it asks for again at once, such as an expired version.
func (w *Watch[T]) note(verb string, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = nil
	if err != nil {
		w.err = fmt.Errorf("%s %s: %w", verb, w.objects.kind.Plural, err)
	}
	return err
}

// A mirror is the Watch as the reflector fills it.
type mirror[T any] Watch[T]

// Add, Update, Delete, Replace and Resync make a mirror a cache.ReflectorStore.
func (m *mirror[T]) Add(obj any) error    { return m.put(obj) }
func (m *mirror[T]) Update(obj any) error { return m.put(obj) }
func (m *mirror[T]) Resync() error        { return nil }

func (m *mirror[T]) put(obj any) error {
	key, t, err := read[T](obj)
	if err != nil {
		return err
	}
	m.change(key, t)
	return nil
}

// Delete takes an object out.
func (m *mirror[T]) Delete(obj any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return err
	}
	m.change(key, nil)
	return nil
}

// Replace makes the list the whole.
func (m *mirror[T]) Replace(list []any, _ string) error {
	now := make(map[string]*T, len(list))
	for _, obj := range list {
		key, t, err := read[T](obj)
		if err != nil {
			return err
		}
		now[key] = t
	}
	m.mu.Lock()
	var gone []string
	for key := range m.items {
		if now[key] == nil {
			gone = append(gone, key)
		}
	}
	m.mu.Unlock()
	for _, key := range gone {
		m.change(key, nil)
	}
	for key, t := range now {
		m.change(key, t)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.full {
		m.full = true
		close(m.synced)
	}
	return nil
}

// change sets or, with nil, removes an object, and tells who wants to know.
func (m *mirror[T]) change(key string, t *T) {
	m.mu.Lock()
	old := m.items[key]
	if t == nil {
		delete(m.items, key)
	} else {
		m.items[key] = t
	}
	m.mu.Unlock()
	if old != nil || t != nil {
		m.seen(Change[T]{Key: key, Old: old, Now: t})
	}
}

// read returns an object's key and what T has fields for.
func read[T any](obj any) (string, *T, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return "", nil, fmt.Errorf("the server sent a %T", obj)
	}
	key, err := cache.MetaNamespaceKeyFunc(u)
	if err != nil {
		return "", nil, err
	}
	t, err := decode[T](u)
	return key, t, err
}
