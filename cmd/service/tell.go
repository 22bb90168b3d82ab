package service

import (
	"errors"
	"fmt"
	"io"

	"github.com/sedge-iot/sedge/edge"
)

// TellError writes to w why a program ends, and what to do about it if that is known.
func TellError(w io.Writer, err error) {
	fmt.Fprintln(w, "error:", err)
	if e, ok := errors.AsType[*edge.Error](err); ok && e.Hint != "" {
		fmt.Fprintln(w, "hint:", e.Hint)
	}
}
