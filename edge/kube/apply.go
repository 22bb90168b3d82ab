package kube

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Try is [Objects.Apply] as far as the server checks it: nothing is changed if
// dry, and fields that the server does not know are refused.
func (o *Objects[T]) Try(ctx context.Context, t *T, dry bool) (*T, error) {
	u, err := o.encode(t)
	if err != nil {
		return nil, err
	}
	return o.try(ctx, u, dry)
}

func (o *Objects[T]) try(ctx context.Context, u *unstructured.Unstructured, dry bool) (*T, error) {
	data, err := u.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.kind.Name, err)
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: manager, Force: &force, FieldValidation: metav1.FieldValidationStrict}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	ctx, stop := context.WithTimeout(ctx, RequestTimeout)
	defer stop()
	made, err := o.api.Patch(ctx, u.GetName(), types.ApplyPatchType, data, opts)
	return o.result("apply", u.GetName(), made, err)
}

// IsUnknownKind reports whether the server has no objects of the kind at all.
func IsUnknownKind(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsNotFound(err) {
		return false
	}
	details := status.ErrStatus.Details
	return details == nil || details.Name == ""
}
