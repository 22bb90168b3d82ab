package javascript

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/grafana/sobek"
)

// btoa and atob turn bytes, written as characters up to U+00FF, into base64 and
// back.
func (c *place) btoa(call sobek.FunctionCall) (sobek.Value, error) {
	text := call.Argument(0).String()
	raw := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return nil, fmt.Errorf("btoa: %q is no byte; encode the text first", r)
		}
		raw = append(raw, byte(r))
	}
	return c.vm.ToValue(base64.StdEncoding.EncodeToString(raw)), nil
}

func (c *place) atob(call sobek.FunctionCall) (sobek.Value, error) {
	text := strings.TrimRight(strings.Join(strings.Fields(call.Argument(0).String()), ""), "=")
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("atob: this is no base64")
	}
	var b strings.Builder
	for _, one := range raw {
		b.WriteRune(rune(one))
	}
	return c.vm.ToValue(b.String()), nil
}

// textEncoder and textDecoder are the constructors of that name, for UTF-8.
func (c *place) textEncoder() sobek.Value {
	return c.vm.ToValue(func(call sobek.ConstructorCall) *sobek.Object {
		c.set(call.This, "encoding", c.vm.ToValue("utf-8"))
		c.set(call.This, "encode", c.function(func(call sobek.FunctionCall) (sobek.Value, error) {
			text := ""
			if v := call.Argument(0); !sobek.IsUndefined(v) {
				text = v.String()
			}
			return c.bytes([]byte(text)), nil
		}))
		return nil
	})
}

func (c *place) textDecoder() sobek.Value {
	return c.vm.ToValue(func(call sobek.ConstructorCall) *sobek.Object {
		if v := call.Argument(0); !sobek.IsUndefined(v) && v.String() != "utf-8" && v.String() != "utf8" {
			c.throw(fmt.Errorf("TextDecoder: only utf-8 is there, not %q", v.String()))
		}
		c.set(call.This, "encoding", c.vm.ToValue("utf-8"))
		c.set(call.This, "decode", c.function(func(call sobek.FunctionCall) (sobek.Value, error) {
			v := call.Argument(0)
			if sobek.IsUndefined(v) {
				return c.vm.ToValue(""), nil
			}
			raw, ok := c.binary(v)
			if !ok {
				return nil, errors.New("decode: the argument holds no bytes")
			}
			return c.vm.ToValue(strings.ToValidUTF8(string(raw), "\uFFFD")), nil
		}))
		return nil
	})
}

func (c *place) set(o *sobek.Object, name string, v sobek.Value) {
	if err := o.Set(name, v); err != nil {
		c.throw(err)
	}
}
