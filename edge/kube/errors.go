package kube

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// IsNotFound reports whether the object is not there.
func IsNotFound(err error) bool { return apierrors.IsNotFound(err) }

// IsExists reports whether an object of that name is there already.
func IsExists(err error) bool { return apierrors.IsAlreadyExists(err) }

// IsConflict reports whether the object is not, or no longer, the one that was
// meant: another version or another UID.
func IsConflict(err error) bool { return apierrors.IsConflict(err) }

// IsDenied reports whether the server does not let this client do that.
func IsDenied(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// IsInvalid reports whether the object breaks the rules of its kind.
func IsInvalid(err error) bool { return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) }

// Away reports whether the server could not be reached, or not do its work: the
// same request may succeed later.
func Away(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var status apierrors.APIStatus // no error by its type, which AsType wants
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
}
