// Package recognition asks a mutual-recognition gateway whether a presented credential may be recognised for a matter.
//
// A verdict is one of three: [Accepted], [Rejected] or [Indeterminate]. [Match] makes a program say what it does with
// each. An [Error] of some kind means that there is no verdict: the question could not be asked or answered. It is
// evidence of nothing, and never a rejection.
//
//	profile, err := recognition.ReadProfile("clients/hukou.toml")
//	...
//	client, err := recognition.Dial(profile)
//	...
//	defer client.Close()
//	challenge, err := client.Challenge(ctx, matter)
//	... // the person's wallet answers the challenge with a presentation
//	decision, err := client.Verify(ctx, recognition.VerifyRequest{
//		Matter: matter, Presentation: presentation, Nonce: challenge.Nonce,
//	})
//
// The client logs nothing, and what it makes prints without attributes, pseudonyms, presentations and nonces, whatever
// the verb. The generated code of the whole contract is in the package recognitionv1; [Client.Connection] carries it.
package recognition
