-- Whether a result was shown, to whom and since when. A prognosis that is known changes the course it foretells, so
-- models are evaluated on results that nobody saw, or the bias is stated. What no destination stored is a shadow.

ALTER TABLE job ADD COLUMN shown_to TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN shown_at TEXT;

-- Version 1 wrote down when the destination stored an object, and not which destination it was.
UPDATE job SET shown_at = (
    SELECT min(at) FROM delivery
    WHERE delivery.job_id = job.job_id AND delivery.answer IN ('STORED', 'STORED_WITH_WARNING')
);
