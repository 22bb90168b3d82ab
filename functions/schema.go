package functions

import (
	"bytes"
	_ "embed"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema (2020-12) of manifests, with which editors
// complete and explain them. [Parse] is stricter: a schema cannot tell whether
// an expression compiles.
func Schema() []byte { return bytes.Clone(schema) }
