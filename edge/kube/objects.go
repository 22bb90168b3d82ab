package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// A Kind names a kind of objects and the type T that they are read into. T is a
// struct with the JSON names of the API; what it has no field for is dropped.
type Kind[T any] struct {
	Group   string // "" for the core
	Version string
	Name    string // Pod
	Plural  string // pods
}

// In returns the objects of the kind in a namespace; "" is all namespaces, or where
// those live that belong to none.
func (k Kind[T]) In(c *Client, namespace string) *Objects[T] {
	all := c.dynamic.Resource(schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Plural})
	if namespace == "" {
		return &Objects[T]{kind: k, api: all}
	}
	return &Objects[T]{kind: k, api: all.Namespace(namespace)}
}

// apiVersion returns what objects of the kind have in apiVersion.
func (k Kind[T]) apiVersion() string {
	return schema.GroupVersion{Group: k.Group, Version: k.Version}.String()
}

// OwnedBy returns the reference to an object of the kind as the owner of another.
func (k Kind[T]) OwnedBy(m Meta) Owner {
	return Owner{APIVersion: k.apiVersion(), Kind: k.Name, Name: m.Name, UID: m.UID}
}

// Objects are those of one kind in one namespace. They may be used from several
// goroutines. Errors are sorted by [IsNotFound], [Away] and the like.
type Objects[T any] struct {
	kind Kind[T]
	api  dynamic.ResourceInterface
}

// Get returns one object.
func (o *Objects[T]) Get(ctx context.Context, name string) (*T, error) {
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	u, err := o.api.Get(ctx, name, metav1.GetOptions{})
	return o.result("get", name, u, err)
}

// List returns the objects that sel picks. The server is asked for 500 at a time.
func (o *Objects[T]) List(ctx context.Context, sel Selector) ([]*T, error) {
	var all []*T
	opts := metav1.ListOptions{LabelSelector: sel.Labels, FieldSelector: sel.Fields, Limit: 500}
	for {
		page, err := o.page(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", o.kind.Plural, err)
		}
		for i := range page.Items {
			t, err := decode[T](&page.Items[i])
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", o.kind.Plural, err)
			}
			all = append(all, t)
		}
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			return all, nil
		}
	}
}

func (o *Objects[T]) page(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	return o.api.List(ctx, opts)
}

// Create makes an object, and returns it as the server has it.
func (o *Objects[T]) Create(ctx context.Context, t *T) (*T, error) {
	u, err := o.encode(t)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	made, err := o.api.Create(ctx, u, metav1.CreateOptions{FieldManager: manager})
	return o.result("create", u.GetName()+u.GetGenerateName(), made, err)
}

// manager is under what name the server notes which fields are ours.
const manager = "sedge"

// Apply makes the object, or sets the fields of it that t has and nobody else is to
// have; fields that an earlier Apply set and t has not are removed.
func (o *Objects[T]) Apply(ctx context.Context, t *T) (*T, error) {
	u, err := o.encode(t)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	made, err := o.api.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: manager, Force: true})
	return o.result("apply", u.GetName(), made, err)
}

// Update replaces the object by t, if it still has t's resourceVersion; part is
// "" for the object itself or names a subresource such as "status".
func (o *Objects[T]) Update(ctx context.Context, t *T, part string) (*T, error) {
	u, err := o.encode(t)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	made, err := o.api.Update(ctx, u, metav1.UpdateOptions{FieldManager: manager}, parts(part)...)
	return o.result("update", u.GetName(), made, err)
}

// Patch merges the JSON of patch into the object (RFC 7386: null removes a field);
// part is as for Update.
func (o *Objects[T]) Patch(ctx context.Context, name string, patch any, part string) (*T, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("patch %s %s: %w", o.kind.Plural, name, err)
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	u, err := o.api.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: manager}, parts(part)...)
	return o.result("patch", name, u, err)
}

func parts(part string) []string {
	if part == "" {
		return nil
	}
	return []string{part}
}

// Delete deletes an object; one that is gone is no error. It must be the one with
// that uid, if one is given; else the error [IsConflict].
func (o *Objects[T]) Delete(ctx context.Context, name, uid string) error {
	opts := metav1.DeleteOptions{}
	background := metav1.DeletePropagationBackground
	opts.PropagationPolicy = &background
	if uid != "" {
		opts.Preconditions = &metav1.Preconditions{UID: (*types.UID)(&uid)}
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	err := o.api.Delete(ctx, name, opts)
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", o.kind.Plural, name, err)
	}
	return nil
}

// result turns the server's answer into the caller's.
func (o *Objects[T]) result(verb, name string, u *unstructured.Unstructured, err error) (*T, error) {
	if err != nil {
		return nil, fmt.Errorf("%s %s %s: %w", verb, o.kind.Plural, name, err)
	}
	t, err := decode[T](u)
	if err != nil {
		return nil, fmt.Errorf("%s %s %s: %w", verb, o.kind.Plural, name, err)
	}
	return t, nil
}

// encode returns t as the dynamic client takes it.
func (o *Objects[T]) encode(t *T) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.kind.Name, err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.kind.Name, err)
	}
	u.SetAPIVersion(o.kind.apiVersion())
	u.SetKind(o.kind.Name)
	return u, nil
}

// decode returns what T has fields for.
func decode[T any](u *unstructured.Unstructured) (*T, error) {
	data, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	t := new(T)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return t, nil
}
