# Makes evaluation_values.csv (name, value) from survival_cohort.csv: the statistics that only the report computes.
# Debian: r-base-core r-cran-survival. Run in this folder: Rscript evaluation.R
# Made with R 4.2.2, survival 3.5-3.
suppressMessages(library(survival))
d <- read.csv("survival_cohort.csv")
out <- list()
put <- function(name, values) {
  values <- unlist(values)
  labels <- if (length(values) == 1) name else paste0(name, ".", seq_along(values))
  for (i in seq_along(values)) out[[labels[i]]] <<- values[[i]]
}
exact <- coxph.control(eps = 1e-14, toler.chol = 1e-15, iter.max = 50)

# Recalibration in the large: events over events expected by a model of other patients (Crowson et al. 2016)
fit <- coxph(Surv(time, event) ~ score, d[1:100, ], control = exact)
rest <- d[101:160, ]
put("recalibration.factor", sum(rest$event) / sum(predict(fit, newdata = rest, type = "expected")))

# Variance inflation: 1 / (1 - R squared) of each variable on the others
vars <- c("score", "age", "female", "child_b", "rival")
for (v in vars) {
  r2 <- summary(lm(reformulate(setdiff(vars, v), v), d))$r.squared
  put(paste0("vif.", v), 1 / (1 - r2))
}

# Exact interval of a rate, rank correlation with its P
put("exact.interval", binom.test(23, 61)$conf.int)
put("spearman", cor(d$score, d$rival, method = "spearman"))

# Difference of two paired C-indices with the standard error of the infinitesimal jackknife
pair <- concordance(coxph(Surv(time, event) ~ score, d), coxph(Surv(time, event) ~ rival, d))
put("paired.difference", -diff(coef(pair)))
put("paired.error", sqrt(c(1, -1) %*% vcov(pair) %*% c(1, -1)))

# Leave one group out: C of a ridge Cox of the others (theta = 1 on standardised variables)
held <- d$coarse == 2
ridge.fit <- coxph(Surv(time, event) ~ ridge(score, age, theta = 1, scale = TRUE), d[!held, ], control = exact)
lp <- as.matrix(d[held, c("score", "age")]) %*% coef(ridge.fit)
put("left.out.c", concordance(Surv(time, event) ~ lp, d[held, ], reverse = TRUE)$concordance)

# Interaction of a score with a subgroup: likelihood ratio
small <- coxph(Surv(time, event) ~ score + child_b, d, control = exact)
large <- coxph(Surv(time, event) ~ score * child_b, d, control = exact)
put("interaction.p", anova(small, large)[2, 4])

# Cox-Snell R squared of a fit
whole <- coxph(Surv(time, event) ~ score + age, d, control = exact)
put("cox.snell", 1 - exp(-2 * diff(whole$loglik) / nrow(d)))

writeLines(c("name,value", paste0(names(out), ",", sapply(out, function(v) format(v, digits = 17)))), "evaluation_values.csv")
