package javascript

import (
	"errors"
	"strings"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// explain tells an author how the code failed.
func (c *place) explain(err error) *functions.Failure {
	if f, ok := errors.AsType[*functions.Failure](err); ok {
		if ex, ok := errors.AsType[*sobek.Exception](err); ok && f.Stack == "" {
			return &functions.Failure{Code: f.Code, Message: f.Message, Stack: c.stack(ex.Stack())}
		}
		return f
	}
	if e, ok := errors.AsType[*sobek.StackOverflowError](err); ok {
		frames := e.Stack()
		return &functions.Failure{Code: functions.CodeThrown, Message: "RangeError: calls nest too deep", Stack: c.stack(frames[:min(len(frames), 10)])}
	}
	if e, ok := errors.AsType[*sobek.Exception](err); ok {
		return c.thrown(e)
	}
	return &functions.Failure{Code: functions.CodeThrown, Message: err.Error()}
}

// thrown describes what was thrown, which may be anything.
func (c *place) thrown(ex *sobek.Exception) *functions.Failure {
	f := &functions.Failure{Code: functions.CodeThrown, Stack: c.stack(ex.Stack())}
	v := ex.Value()
	if thrown := c.vm.Try(func() { f.Message = c.describe(v) }); thrown != nil || f.Message == "" {
		f.Message = "an exception that cannot be shown was thrown"
	}
	f.Message = cut(f.Message, runner.MaxMessage)
	if o, ok := v.(*sobek.Object); ok {
		c.vm.Try(func() {
			if s, ok := o.Get("stack").(sobek.String); ok && o.ClassName() == "Error" {
				f.Stack = frames(s.String()) // where it was made, which may be earlier than where it was thrown
			}
		})
	}
	return f
}

func (c *place) describe(v sobek.Value) string {
	o, ok := v.(*sobek.Object)
	if !ok {
		return "thrown: " + c.show(v)
	}
	if o.ClassName() == "Error" {
		return o.String()
	}
	return "thrown: " + c.show(v)
}

// stack writes frames, without those of the engine.
func (c *place) stack(list []sobek.StackFrame) string {
	var b strings.Builder
	for _, f := range list {
		if f.SrcName() == "<native>" {
			continue
		}
		p := f.Position()
		b.WriteString("at " + f.FuncName() + " (" + p.String() + ")\n")
		if b.Len() > runner.MaxStack {
			break
		}
	}
	return cut(strings.TrimSuffix(b.String(), "\n"), runner.MaxStack)
}

// frames returns the lines of an Error's stack that are frames of the source.
func frames(stack string) string {
	var lines []string
	for l := range strings.Lines(stack) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "at ") && !strings.Contains(l, "(native)") {
			lines = append(lines, l)
		}
	}
	return cut(strings.Join(lines, "\n"), runner.MaxStack)
}

// cut returns the beginning of s, at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
