// Written by npm run generate from clients/service-config.json. DO NOT EDIT.

export const SERVICE_CONFIG = {
  "methodConfig": [
    {
      "name": [
        {
          "service": "recognition.v1.VerificationService",
          "method": "CreateChallenge"
        },
        {
          "service": "recognition.v1.VerificationService",
          "method": "VerifyCredential"
        },
        {
          "service": "recognition.v1.VerificationService",
          "method": "BatchVerifyCredentials"
        },
        {
          "service": "recognition.v1.VerificationService",
          "method": "ExplainVerification"
        },
        {
          "service": "recognition.v1.AuditService",
          "method": "GetEvidence"
        }
      ],
      "retryPolicy": {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": [
          "UNAVAILABLE"
        ]
      }
    }
  ],
  "retryThrottling": {
    "maxTokens": 10,
    "tokenRatio": 0.1
  }
};
